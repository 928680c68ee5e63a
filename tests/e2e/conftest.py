"""A started house per test, in the test's own directory."""

import pytest

from tests.support.house import House
from tests.support.house import house as started
from tests.support.proxy import Proxy


@pytest.fixture
def house(tmp_path):
    with started(tmp_path) as built:
        yield built
    assert not built.agents(), "agents left behind"


@pytest.fixture
def linked(tmp_path):
    """A house whose coordinator link goes through a proxy."""
    house = House(tmp_path)
    proxy = Proxy(house.coordinator_port)
    house.link_port = proxy.port
    house.proxy = proxy
    try:
        yield house.start()
    finally:
        house.close()
        proxy.close()
    assert not house.agents(), "agents left behind"
