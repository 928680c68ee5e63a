import pytest

from kici.config.units import is_host_access, memory_bytes


# S28
@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [("512m", 2**29), ("2g", 2**31), ("2G", 2**31), ("1.5g", 1_610_612_736), ("2 g", 2**31),
     ("1024k", 2**20), ("0m", 0), ("0.3k", 307)],
)  # fmt: skip
def test_a_size_is_read_and_floored(text, n_bytes):
    assert memory_bytes(text) == n_bytes


# S28
@pytest.mark.parametrize(
    "text", ["512", "2gb", "2Gi", "2t", " 2g", "2g ", ".5g", "1e3m", "", "1.g", "-1g", "2g\n", "٣g"]
)
def test_another_grammar_is_refused(text):
    with pytest.raises(ValueError):
        memory_bytes(text)


# S36
@pytest.mark.parametrize(
    ("rule", "accepted"),
    [
        ("*:443", True), ("10.0.0.0/8", True), ("53", True), ("10.0.0.5:8333", True), ("*", True),
        ("10.0.0.0/8:*", True), ("10.1.2.3/8", True), ("db.local:5432", False), ("0", False),
        ("70000", False), ("10.0.0.5:0", False), ("::1", False), ("10.0.0.0/33", False),
        ("", False), ("10.0.0.5:", False), ("1.2.3", False),
        ("10.0.0.0/٨", False), ("٥٣", False),
    ],
)  # fmt: skip
def test_a_host_access_rule_is_an_address_and_a_port(rule, accepted):
    assert is_host_access(rule) == accepted
