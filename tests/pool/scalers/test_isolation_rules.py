"""nft rules as text: order, policies, and which are removed."""

import pytest

from kici.config.model import NetworkPolicy
from kici.pool.scalers.isolation_rules import BadPolicy, handles, rules


def seen_by_packet(text, chain):
    """The rules of ``chain`` in the order in which a packet meets them."""
    start = f"insert rule ip kici {chain} ip saddr 172.30.0.5 "
    return [line.removeprefix(start) for line in text.splitlines() if line.startswith(start)][::-1]


# S112
def test_a_packet_meets_accepts_then_private_drops_then_the_rest():
    policy = NetworkPolicy(allowlist=("10.1.2.3", "10.2.0.0/16"), deny_all=True)
    assert seen_by_packet(rules("172.30.0.5", policy, 4000), "forward") == [
        "ip daddr 172.30.0.1 accept",
        "ip daddr 10.1.2.3/32 accept",
        "ip daddr 10.2.0.0/16 accept",
        "ip daddr 10.0.0.0/8 drop",
        "ip daddr 172.16.0.0/12 drop",
        "ip daddr 192.168.0.0/16 drop",
        "ip daddr 169.254.0.0/16 drop",
        "drop",
    ]


def test_by_default_the_host_offers_dns_and_the_workers_port():
    assert seen_by_packet(rules("172.30.0.5", None, 4001), "input") == [
        "ct state established,related accept",
        "ip daddr 172.30.0.1/32 tcp dport 53 accept",
        "ip daddr 172.30.0.1/32 udp dport 53 accept",
        "tcp dport 4001 accept",
        "udp dport 4001 accept",
        "drop",
    ]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (NetworkPolicy(host_access=False), []),
        (
            NetworkPolicy(host_access=True, host_access_rules=("10.0.0.5:8333", "*:443", "53")),
            [
                "ip daddr 10.0.0.5/32 tcp dport 8333 accept",
                "ip daddr 10.0.0.5/32 udp dport 8333 accept",
                "tcp dport 443 accept",
                "udp dport 443 accept",
                "tcp dport 53 accept",
                "udp dport 53 accept",
            ],
        ),
        (
            NetworkPolicy(host_access=True, host_access_rules=("10.0.0.0/8", "*:*")),
            ["ip daddr 10.0.0.0/8 accept", "accept"],
        ),
    ],
)
def test_an_explicit_host_access_list_replaces_the_default(policy, expected):
    found = seen_by_packet(rules("172.30.0.5", policy, 4000), "input")
    assert found == ["ct state established,related accept", *expected, "drop"]


@pytest.mark.parametrize("entry", ["db.example", "10.0.0.0/33", "1.2.3.4; drop", "::1"])
def test_an_allowlist_entry_that_is_no_network_is_refused(entry):
    with pytest.raises(BadPolicy):
        rules("172.30.0.5", NetworkPolicy(allowlist=(entry,)), None)


LISTING = """table ip kici {
\tchain forward { # handle 1
\t\ttype filter hook forward priority filter; policy accept;
\t\tip saddr 172.30.0.1 ip daddr 10.0.0.0/8 drop # handle 7
\t\tip saddr 172.30.0.10 ip daddr 10.0.0.0/8 drop # handle 8
\t\tip saddr 172.30.0.1 drop # handle 12
\t\tip saddr 10.9.9.9 drop # handle 13
\t\tip daddr 172.30.0.1 accept # handle 14
\t}
}
"""


# S112
def test_rules_of_one_address_are_found_and_not_those_of_a_longer_one():
    assert handles(LISTING, "172.30.0.1") == [12, 7]
    assert handles(LISTING, "172.30.0.10") == [8]
    assert handles(LISTING, "172.30.0.100") == []


# S112
def test_the_sweep_takes_our_subnets_unused_addresses_only():
    assert handles(LISTING, None, {"172.30.0.10"}) == [12, 7]
    assert handles(LISTING, None, {"172.30.0.1"}) == [8]
