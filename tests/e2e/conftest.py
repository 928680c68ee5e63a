"""A started house per test, in the test's own directory."""

import pytest

from tests.support.house import house as started


@pytest.fixture
def house(tmp_path):
    with started(tmp_path) as built:
        yield built
    assert not built.agents(), "agents left behind"
