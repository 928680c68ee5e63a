"""Where there is no nft (macOS, no NET_ADMIN): containers run unfiltered, and it is said."""

import logging

import pytest

from kici.config.model import NetworkPolicy
from kici.pool.scalers.engine import EngineError
from kici.pool.scalers.isolation import Isolation


class Network:
    """An engine's client as far as networks go."""

    def __init__(self):
        self.made = []

    def networks(self, names):
        return [{"Name": name} for name in self.made if name in names]

    def create_network(self, name, **_more):
        self.made.append(name)


@pytest.fixture
def bare():
    isolation = Isolation("boxes", nft=("/nowhere/nft",))
    isolation.prepare(Network(), on_local_host=True)
    return isolation


# S100
def test_a_machine_without_nft_gets_the_network_and_one_warning(caplog):
    client = Network()
    isolation = Isolation("boxes", nft=("/nowhere/nft",))
    with caplog.at_level(logging.WARNING):
        isolation.prepare(client, on_local_host=True)
        isolation.prepare(client, on_local_host=True)
    assert len(client.made) == 1
    assert [one.getMessage() for one in caplog.records] == [
        "Network isolation without packet filter: /nowhere/nft is not installed"
    ]


def test_containers_come_and_go_without_rules(bare):
    bare.admit("172.30.0.2", None, "ws://172.30.0.1:4000/ws")
    bare.dismiss("172.30.0.2")
    bare.sweep([])


@pytest.mark.parametrize(
    "policy", [NetworkPolicy(deny_all=True), NetworkPolicy(host_access_rules=("10.0.0.1:80",))]
)
def test_a_policy_that_nobody_could_enforce_is_refused(bare, policy):
    with pytest.raises(EngineError, match=r"cannot be enforced: /nowhere/nft is not installed"):
        bare.check(policy)


def test_a_policy_that_forbids_nothing_is_fine(bare):
    bare.check(None)
    bare.check(NetworkPolicy())


def test_an_engine_on_another_host_is_not_filtered_here():
    isolation = Isolation("boxes", nft=("/bin/false",))
    isolation.prepare(Network(), on_local_host=False)
    assert isolation.reason == "the engine is on another host"
