"""Where there is no nft (macOS, no NET_ADMIN): containers run unfiltered, and it is said."""

import contextlib
import logging

import pytest

from kici.config.model import NetworkPolicy
from kici.pool.scalers.container import ContainerBackend
from kici.pool.scalers.engine import EngineError
from kici.pool.scalers.isolation import Isolation
from tests.support import fake_nft
from tests.support.fleet_world import boxes
from tests.support.waiting import until


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
    bare.sweep(set)


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


# --- with a packet filter -------------------------------------------------------------

URL = "ws://172.30.0.1:4000/ws"
OLD, NEW = "172.30.0.2", "172.30.0.3"


@pytest.fixture
def filtering(tmp_path):
    isolation = Isolation("boxes", nft=fake_nft.command(tmp_path / "rules"))
    isolation.prepare(Network(), on_local_host=True)
    assert isolation.reason == ""
    return isolation


def filtered(isolation):
    """Addresses that have rules."""
    chains = [isolation._run("-a", "list", "chain", "ip", "kici", c) for c in ("forward", "input")]
    return {line.split()[2] for line in "".join(chains).splitlines()}


# S112
def test_a_container_that_is_admitted_during_a_sweep_keeps_its_rules(filtering):
    filtering.admit(OLD, None, URL)

    def in_use():
        """The containers were listed; a launch goes on meanwhile."""
        filtering.admit(NEW, None, URL)
        return set()

    filtering.sweep(in_use)
    assert filtered(filtering) == {NEW}


# S112
def test_an_address_that_is_given_anew_during_a_sweep_keeps_its_rules(filtering):
    filtering.admit(OLD, None, URL)

    def in_use():
        filtering.dismiss(OLD)
        filtering.admit(OLD, None, URL)
        return set()

    filtering.sweep(in_use)
    assert filtered(filtering) == {OLD}


# S112
def test_rules_stay_while_the_engine_does_not_say_whose_they_are(filtering, engine, tmp_path):
    for address in (OLD, NEW):
        filtering.admit(address, None, URL)
    for container, address in (("c1", OLD), ("c2", NEW)):
        engine.add(container, f"agent-{container}", "boxes", owner="another", address=address)
    backend = ContainerBackend(
        boxes(engine, network_isolation=True),
        owner="worker-1",
        state_dir=str(tmp_path),
        report=print,
        nft=fake_nft.command(tmp_path / "rules"),
    )
    with contextlib.closing(backend):
        until(lambda: backend.health() == "")
        engine.answers["containers/c1/json"] = (500, {"message": "busy"})
        del engine.containers["c2"]
        backend._reconcile()
        assert filtered(filtering) == {OLD, NEW}
        # Gone between the list and the question, it has no address any more.
        engine.answers["containers/c1/json"] = (404, {"message": "no such container"})
        backend._reconcile()
        assert filtered(filtering) == set()
