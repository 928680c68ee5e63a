"""The container backend's watch on an engine that breaks off."""

import pytest

from tests.support.fake_engine import Broken
from tests.support.fleet_world import boxes
from tests.support.waiting import until


@pytest.mark.parametrize("kind", [Broken, bytes])
def test_events_that_break_off_are_followed_again(fleet, engine, kind):
    engine.answers["GET /events"] = (200, kind(b'{"Action":"die"}\n{"Act'))
    fleet.configured(boxes(engine))
    until(lambda: len(engine.asked("GET /events")) >= 2)
