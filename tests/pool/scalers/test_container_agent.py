"""A launch ends in a report whatever the engine does, with an engine that does it on command."""

import pytest

from kici.pool.scalers.base import EventKind
from tests.support.fake_engine import Broken
from tests.support.fleet_world import boxes
from tests.support.waiting import until


# S107
@pytest.mark.parametrize(
    ("asked", "answer", "detail"),
    [
        ("images/create", (200, Broken(b'{"status":"Pulling fs layer"}\n')), "pull of i:1 failed"),
        ("images/create", (200, Broken(b'{"sta')), "pull of i:1 failed"),
        ("containers/create", (201, {}), "KeyError"),
    ],
)
def test_an_engine_that_breaks_off_or_talks_nonsense_fails_the_launch(
    fleet, engine, asked, answer, detail
):
    if asked == "containers/create":
        engine.images.add("i:1")
    fleet.configured(boxes(engine))
    engine.answers[asked] = answer
    fleet.started("a1", "boxes")
    until(lambda: fleet.ends())
    (end,) = fleet.ends()
    assert (end.agent_id, end.kind) == ("a1", EventKind.FAILED)
    assert detail in end.detail
    assert fleet._agents == {}
    assert fleet._backends["boxes"]._agents == {}


def test_an_end_that_an_engine_tells_as_nonsense_is_an_end_all_the_same(fleet, engine):
    backend = fleet.configured(boxes(engine))
    engine.add("c1", "busy1", "boxes")
    fleet.adopt("busy1", "boxes")
    until(lambda: backend._agents["busy1"].up)
    engine.answers["GET /containers/c1/json"] = (200, {})
    engine.containers["c1"]["state"] = "exited"
    until(lambda: fleet.ends())
    assert [one.kind for one in fleet.ends()] == [EventKind.EXITED]
    assert fleet._agents == {} == backend._agents
    until(lambda: engine.containers == {})
