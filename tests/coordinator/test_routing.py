"""kici/coordinator/routing.py: the choice among very many workers, by counts."""

from kici.coordinator import routing
from kici.coordinator.routing import PeerEntry, Reservation, candidates
from kici.protocol.inventory import Agent, Backend, Inventory, LabelSet
from kici.protocol.labels import canonical_set, requirements

NEED = requirements(runs_on=[["linux"]])


def peer(number, *, agents=1, backends=0, labels=("linux", "x64")):
    offered, gate = canonical_set(labels), frozenset()
    sets = (LabelSet(offered, gate),)
    inventory = Inventory(
        tuple(Agent(f"a{n}", offered, gate, 1) for n in range(agents)),
        (Backend("b", sets, backends),) if backends else (),
    )
    return PeerEntry(f"w{number}", link=object(), inventory=inventory, reserved={})


def chosen(peers, skip=()):
    return [one.instance_id for one, _ in candidates(peers, NEED, skip, 0.0)]


def test_labels_that_workers_have_in_common_are_compared_once(monkeypatch):
    looks, real = [], routing.serves
    monkeypatch.setattr(routing, "serves", lambda *args: looks.append(args) or real(*args))
    peers = [peer(n) for n in range(300)] + [peer(n, labels=("mac",)) for n in range(300, 500)]
    assert len(chosen(peers)) == 300
    assert len(looks) == 2


# C34
def test_more_free_agents_come_first_then_more_backends_then_the_older_one():
    peers = [
        peer(0, agents=0, backends=9), peer(1), peer(2, agents=3), peer(3, backends=2), peer(4),
        peer(5, agents=2), peer(6, agents=0),
    ]  # fmt: skip
    assert chosen(peers) == ["w2", "w5", "w3", "w1", "w4", "w0"]
    assert chosen(peers, skip={"w2", "w3"}) == ["w5", "w1", "w4", "w0"]


# C41
def test_a_reserved_slot_is_not_offered_twice():
    full = peer(0)
    full.reserved["job"] = Reservation(("agent", "a0"))
    half = peer(1, agents=2)
    half.reserved["job"] = Reservation(("agent", "a0"))
    ((found, fitting),) = candidates([full, half], NEED, (), 0.0)
    assert found is half
    assert (fitting.agent_slots, fitting.resource) == (1, ("agent", "a1"))
