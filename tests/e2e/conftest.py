"""A started house per test, in the test's own directory."""

import contextlib

import pytest

from tests.support.house import House
from tests.support.house import house as started
from tests.support.proxy import Proxy


@pytest.fixture
def house(tmp_path):
    with started(tmp_path) as built:
        yield built
    assert not built.agents(), "agents left behind"


@contextlib.contextmanager
def behind_proxy(directory, **env):
    """A house whose coordinator link goes through a proxy; ``env`` is the worker's."""
    house = House(directory, env=env)
    proxy = Proxy(house.coordinator_port)
    house.link_port = proxy.port
    house.proxy = proxy
    try:
        yield house.start()
    finally:
        house.close()
        proxy.close()


@pytest.fixture
def linked(tmp_path):
    with behind_proxy(tmp_path) as house:
        yield house
    assert not house.agents(), "agents left behind"
