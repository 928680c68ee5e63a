"""Scalers that were removed while the worker was down: found, looked after, and let go."""

import gevent
import msgspec
import pytest

from kici.config.model import LabelSet, MachinePool, ResourceCap, ResourceSpec, Scaler, ScalerConfig
from kici.pool import left_behind, scalers
from kici.pool.actions import LaunchAgent, ReapAgent
from kici.pool.events import AgentsFound, AgentsSought, BackendReported, LedgerRefused
from kici.pool.fleet import Fleet
from kici.pool.scalers.base import CannotLook, EventKind, LaunchSpec
from kici.pool.scalers.fake import FakeBackend
from kici.pool.tokens import TokenIssuer
from tests.support.pool_world import config
from tests.support.waiting import until

OWNER = "worker-1"
DONE = (EventKind.STARTED, EventKind.FAILED)
AGENT = "scaler-container-00000001"


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Makes fleets of one worker's successive starts; its containers are fakes."""
    monkeypatch.setitem(scalers.BACKENDS, "container", scalers.BACKENDS["fake"])
    monkeypatch.setattr(left_behind, "RETIRE_EVERY_S", 0.02)
    fleets = []

    def make(*configured):
        told = []
        whole = config()
        directory = str(tmp_path)
        settings = msgspec.structs.replace(
            whole.settings, data_dir=directory, machine_ledger_dir=directory
        )
        whole = msgspec.structs.replace(whole, settings=settings)
        one = Fleet(whole, TokenIssuer(str(tmp_path)), told.append)
        fleets.append(one)
        one.configure(ScalerConfig(scalers=configured))
        one.told = told
        return one

    yield make
    for one in fleets:
        one.close()


def boxes():
    label_set = LabelSet(labels=("linux",), enriched=("linux",), image="i:1")
    return Scaler(name="boxes", type="container", max_agents=2, label_sets=(label_set,))


def found(one):
    return [event for event in one.told if isinstance(event, AgentsFound)]


def left_running(tmp_path):
    """An agent that a former start of the worker left."""
    backend = FakeBackend(
        boxes(), owner=OWNER, state_dir=str(tmp_path / "scalers"), report=lambda event: None
    )
    backend.launch(
        LaunchSpec(agent_id=AGENT, scaler=boxes(), label_set=boxes().label_sets[0], env={})
    )
    backend.close()


def test_its_agents_are_found_and_can_be_reaped_and_then_it_is_forgotten(made, tmp_path):
    made(boxes())
    left_running(tmp_path)
    later = made()
    assert later.told[0] == AgentsSought(["boxes"], True)
    until(lambda: found(later))
    assert [one.agent_id for one in found(later)[0].agents] == [AGENT]
    later.adopt(AGENT, "boxes")
    watching = gevent.spawn(later.watch_left_behind)
    gevent.sleep(0.1)
    assert not watching.ready(), "an agent of it lives"
    later.reap(ReapAgent(agent_id=AGENT, scaler="boxes", grace_s=0.0))
    watching.join(5)
    assert watching.ready()
    ends = [event.event.kind for event in later.told if isinstance(event, BackendReported)]
    assert ends[-1] is EventKind.EXITED
    assert made().told == [AgentsSought([], True)]


def test_one_that_is_configured_again_is_nothing_special(made, tmp_path):
    made(boxes())
    later = made(boxes())
    until(lambda: found(later))
    gevent.spawn(later.watch_left_behind).join(5)
    assert [event.scaler for event in found(later)] == ["boxes"]


def moved(**elsewhere):
    return msgspec.structs.replace(boxes(), **elsewhere)


@pytest.mark.parametrize("change", [{"host": "tcp://other:2375"}, {"runtime": "podman"}])
def test_agents_in_the_former_engine_of_a_scaler_are_found_and_ended(made, tmp_path, change):
    made(boxes())
    left_running(tmp_path)
    later = made(moved(**change))
    before = "boxes (earlier 1)"
    assert later.told[0] == AgentsSought(["boxes", before], True)
    until(lambda: len(found(later)) == 2)
    # The fakes have one place for all: both tell of it, and one of them gets it.
    for event in found(later):
        assert [one.agent_id for one in event.agents] == [AGENT]
    later.adopt(AGENT, before)
    later.adopt(AGENT, "boxes")
    watching = gevent.spawn(later.watch_left_behind)
    later.reap(ReapAgent(agent_id=AGENT, scaler=before, grace_s=0.0))
    until(lambda: ends(later) == [EventKind.EXITED])
    watching.join(5)
    assert watching.ready()
    assert set(later._backends) == {"boxes"}
    assert made(moved(**change)).told[0] == AgentsSought(["boxes"], True)


def test_an_engine_that_never_answers_is_left_in_peace_until_the_next_start(
    made, monkeypatch, tmp_path
):
    made(boxes())
    monkeypatch.setattr(left_behind, "GIVE_UP_S", 0.1)
    away = made()

    def look():
        raise CannotLook("no such socket")

    monkeypatch.setattr(away._backends["boxes"], "found", look)
    gevent.spawn(away.watch_left_behind).join(5)
    assert away._backends == {}
    assert made().told[0] == AgentsSought(["boxes"], True)


@pytest.fixture
def left(made, tmp_path):
    """A start that found an agent of a scaler that is configured no more, and took it."""
    made(boxes())
    left_running(tmp_path)
    later = made()
    until(lambda: found(later))
    later.adopt(AGENT, "boxes")
    return later


def reported(one, *kinds):
    told = [event.event for event in one.told if isinstance(event, BackendReported)]
    return [each for each in told if each.kind in kinds]


def ends(one):
    return [each.kind for each in reported(one, EventKind.EXITED, EventKind.FAILED)]


def reap_and_retire(left):
    """Its agent ends, and the fleet looks whether anything is left."""
    watching = gevent.spawn(left.watch_left_behind)
    left.reap(ReapAgent(agent_id=AGENT, scaler="boxes", grace_s=0.0))
    until(lambda: ends(left) == [EventKind.EXITED])
    watching.join(5)
    assert watching.ready()


def launch(one):
    nothing = ResourceSpec()
    one.launch(
        LaunchAgent(agent_id="a2", scaler="boxes", label_set=0, requests=nothing, limits=nothing)
    )
    told = until(lambda: [each for each in reported(one, *DONE) if each.agent_id == "a2"])
    return told[0]


def test_one_that_a_reload_configures_again_stays(left, made):
    left.configure(ScalerConfig(scalers=(boxes(),)))
    reap_and_retire(left)
    assert launch(left).kind is EventKind.STARTED
    # And a later start that does not configure it looks for its agents again.
    later = made()
    until(lambda: found(later))
    assert [one.agent_id for one in found(later)[0].agents] == ["a2"]


def test_one_that_is_configured_while_it_is_looked_at_stays(left, monkeypatch):
    backend = left._backends["boxes"]
    left.reap(ReapAgent(agent_id=AGENT, scaler="boxes", grace_s=0.0))
    until(lambda: ends(left) == [EventKind.EXITED])

    def look():
        left.configure(ScalerConfig(scalers=(boxes(),)))
        return []

    monkeypatch.setattr(backend, "found", look)
    gevent.spawn(left.watch_left_behind).join(5)
    assert launch(left).kind is EventKind.STARTED


def test_one_is_looked_after_across_a_reload_that_does_not_name_it(left, made):
    left.configure(ScalerConfig(scalers=(msgspec.structs.replace(boxes(), name="others"),)))
    assert "boxes" in left._backends
    reap_and_retire(left)
    assert made().told[0] == AgentsSought(["others"], True)


def test_an_agent_that_is_stopped_while_its_share_is_refused_is_reported(made):
    """The core ignores a refusal for an agent that it stops: only its end frees the slot."""
    pool = MachinePool(name="shared", cap=ResourceCap(max_cpu=1))
    one = made()
    scaler = msgspec.structs.replace(boxes(), machine_pool="shared")
    one.configure(ScalerConfig(scalers=(scaler,), machine_pools=(pool,)))
    too_much = ResourceSpec(cpus=2)
    for agent_id in ("a1", "a2"):
        one.launch(
            LaunchAgent(
                agent_id=agent_id, scaler="boxes", label_set=0, requests=too_much, limits=too_much
            )
        )
    one.reap(ReapAgent(agent_id="a1", scaler="boxes", grace_s=0.0))
    until(lambda: [event for event in one.told if isinstance(event, LedgerRefused)])
    refused = [event.agent_id for event in one.told if isinstance(event, LedgerRefused)]
    assert refused == ["a2"]
    (stopped,) = reported(one, EventKind.FAILED)
    assert (stopped.agent_id, stopped.detail) == ("a1", "stopped before it was started")
