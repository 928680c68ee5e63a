"""An open record that no agent can have any more ends soon, not after the whole grace time."""

import pytest

from kici.contracts.states import JobState
from kici.pool.events import AgentsFound, AgentsSought
from kici.pool.orphans import ORPHAN_AFTER_S
from kici.pool.scalers.base import FoundAgent
from tests.support.pool_world import World, key, scaler

GRACE_S = 120.0


def restarted(*found, outsiders=False, certain=True, complete=True):
    """A pool that was told of the open record of j1, and by its backend of ``found``."""
    world = World(scaler(), outbox=False, outsiders=outsiders)
    world.do(AgentsSought(["s1"], complete))
    world.outbox(key())
    agents = [
        FoundAgent(agent_id=name, job_id=None, run_id=None, label_set_labels=("linux",))
        for name in found
    ]
    world.do(AgentsFound("s1", agents, certain))
    return world


def test_a_job_that_nobody_can_have_ends_soon():
    world = restarted()
    world.wait(ORPHAN_AFTER_S - 0.1)
    assert world.finished() == []
    world.wait(0.2)
    assert world.states() == ["failed"]
    assert "worker restarted" in world.error()


@pytest.mark.parametrize(
    "doubt",
    [{"outsiders": True}, {"certain": False}, {"complete": False}],
    ids=["a static agent may come", "a backend could not look", "a scaler is unknown"],
)
def test_doubt_leaves_it_the_whole_grace_time(doubt):
    world = restarted(**doubt)
    world.wait(GRACE_S - 1)
    assert world.finished() == []
    world.wait(2)
    assert world.states() == ["failed"]


def test_a_backend_that_can_look_after_all_ends_the_doubt():
    world = restarted(certain=False)
    world.wait(30)
    world.do(AgentsSought(["s1"]))
    world.wait(ORPHAN_AFTER_S + 1)
    assert world.finished() == []
    world.do(AgentsFound("s1", []))
    world.wait(ORPHAN_AFTER_S)
    assert world.states() == ["failed"]


def test_a_backend_that_has_not_answered_is_waited_for():
    world = World(scaler(), outbox=False, outsiders=False)
    world.do(AgentsSought(["s1"]))
    world.outbox(key())
    world.wait(GRACE_S - 1)
    assert world.finished() == []


def test_a_living_agent_may_come_back_with_it():
    world = restarted("a1")
    world.wait(GRACE_S / 2)
    assert world.finished() == []
    world.register("a1", ("linux", "kici:scaler:s1"), jobs=[("r1", "j1")])
    world.wait(GRACE_S)
    assert world.job().state is JobState.RUNNING


def test_when_the_last_agent_has_said_that_it_has_it_not_the_job_ends_soon():
    world = restarted("a1", "a2")
    world.register("a1", ("linux", "kici:scaler:s1"))
    world.wait(ORPHAN_AFTER_S * 2)
    assert world.finished() == []
    world.backend("a2", "exited")
    world.wait(ORPHAN_AFTER_S)
    assert world.states() == ["failed"]


def test_what_the_peer_offers_again_is_no_orphan():
    world = restarted()
    world.wait(ORPHAN_AFTER_S / 2)
    world.offer(again=True)
    world.wait(ORPHAN_AFTER_S * 2)
    assert world.finished() == []
    assert world.launched
