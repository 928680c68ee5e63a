import pytest

from tests.support.supervised import Supervised


@pytest.fixture
def supervised(tmp_path):
    """A maker of supervisors; what they leave is ended and checked."""
    made = []

    def make(**options) -> Supervised:
        directory = tmp_path / str(len(made))
        directory.mkdir()
        made.append(Supervised(directory, **options))
        return made[-1]

    yield make
    for one in made:
        one.finish()
