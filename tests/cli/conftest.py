"""A worker's web process for commands to talk to."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.web_child import WebChild


@pytest.fixture
def web(tmp_path: Path) -> Iterator[WebChild]:
    child = WebChild(tmp_path)
    yield child
    child.close()


@pytest.fixture
def url(web: WebChild) -> str:
    return f"http://127.0.0.1:{web.port}"
