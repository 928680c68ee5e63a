"""Whose containers a backend removes after a reload: those of nobody, and no others."""

from contextlib import closing

import pytest

from kici.pool.scalers import container_leftovers as leftovers
from tests.support.fake_engine import FakeEngine
from tests.support.fleet_world import ToldFleet, boxes
from tests.support.waiting import until


@pytest.fixture
def replaced(fleet, engine, monkeypatch):
    """An agent at work whose scaler a reload changed: ``(its backend, the scaler's new one)``.
    Whatever nobody holds is a leftover at once."""
    engine.add("c1", "busy1", "boxes", output=b"last words\n")
    old = fleet.configured(boxes(engine))
    fleet.adopt("busy1", "boxes")
    until(lambda: old._agents["busy1"].up)
    new = fleet.configured(boxes(engine, image="i:2"))
    assert new is not old
    monkeypatch.setattr(leftovers, "LEFTOVER_S", 0.0)
    monkeypatch.setattr(leftovers, "_UNSTARTED_S", 0.0)
    return old, new


# S111
def test_an_agent_at_work_outlives_the_reload_of_its_scaler(engine, replaced):
    _, new = replaced
    assert new.found() == []
    new._reconcile()
    assert engine.asked("stop|DELETE") == []


# S111
def test_the_end_after_a_reload_is_read_by_the_agents_own_backend(fleet, engine, replaced):
    old, new = replaced
    engine.containers["c1"] |= {"state": "exited", "code": 7}
    new._reconcile()
    assert "c1" in engine.containers
    old._reconcile()
    until(lambda: fleet.ends())
    assert fleet.ends()[0].detail == "exit code 7\nlast words"
    assert engine.containers == {}


# S111
def test_a_start_that_is_half_done_at_the_reload_is_left_alone(fleet, engine, replaced):
    old, new = replaced
    fleet._agents["starting1"] = old
    engine.add("c2", "starting1", "boxes", state="created")
    new._reconcile()
    assert engine.asked("DELETE") == []


# S111
def test_what_nobody_holds_is_a_leftover_after_a_reload_too(engine, replaced):
    _, new = replaced
    engine.add("c2", "lost", "boxes")
    engine.add("c3", "ended", "boxes", state="exited")
    assert [one.agent_id for one in new.found()] == ["lost"]
    new._reconcile()
    assert list(engine.containers) == ["c1"]


# S111
def test_agents_in_the_former_engine_of_a_scaler_are_watched_to_their_end(engine, tmp_path):
    with closing(ToldFleet(tmp_path)) as first:
        first.configured(boxes(engine))
    engine.add("c1", "busy1", "boxes", output=b"last words\n")
    with closing(FakeEngine(tmp_path / "other.sock")) as other, closing(ToldFleet(tmp_path)) as now:
        now.configured(boxes(other))
        until(lambda: len(now.found()) == 2)
        told = {event.scaler: [one.agent_id for one in event.agents] for event in now.found()}
        assert told == {"boxes": [], "boxes (earlier 1)": ["busy1"]}
        now.adopt("busy1", "boxes (earlier 1)")
        backend = now._backends["boxes (earlier 1)"]
        until(lambda: backend._agents["busy1"].up)
        engine.containers["c1"] |= {"state": "exited", "code": 7}
        until(lambda: now.ends())
        assert now.ends()[0].detail == "exit code 7\nlast words"
        assert engine.containers == {}
