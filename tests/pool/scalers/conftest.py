"""A fake engine, and a fleet; both closed at the end."""

import pytest

from tests.support.fake_engine import FakeEngine
from tests.support.fleet_world import ToldFleet


@pytest.fixture
def engine(tmp_path):
    made = FakeEngine(tmp_path / "engine.sock")
    yield made
    made.close()


@pytest.fixture
def fleet(tmp_path, engine):
    made = ToldFleet(tmp_path)
    yield made
    made.close()
