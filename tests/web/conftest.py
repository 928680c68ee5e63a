"""One web process a test file where its state does not matter; a fresh one where it does."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.web_child import WebChild


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebChild]:
    child = WebChild(tmp_path_factory.mktemp("web"))
    yield child
    child.close()


@pytest.fixture
def web(tmp_path: Path) -> Iterator[WebChild]:
    child = WebChild(tmp_path)
    yield child
    child.close()
