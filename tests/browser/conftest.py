"""One driver a session, one browser and one worker a test."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.browser import Browser, Driver
from tests.support.web_child import WebChild

ROOT = Path(__file__).resolve().parents[2]
NPM = ROOT / "build" / "npm"
AXE = NPM / "node_modules" / "axe-core" / "axe.min.js"


@pytest.fixture(scope="session")
def driver() -> Iterator[Driver]:
    if shutil.which("chromedriver") is None:
        pytest.skip("chromedriver is not installed (make test-all installs it)")
    started = Driver()
    yield started
    started.close()


@pytest.fixture
def browser(driver: Driver, tmp_path: Path) -> Iterator[Browser]:
    session = driver.browser(tmp_path / "profile")
    yield session
    session.close()


@pytest.fixture
def web(tmp_path: Path) -> Iterator[WebChild]:
    data = tmp_path / "data"
    data.mkdir()
    child = WebChild(data)
    yield child
    child.close()


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core; fetched once with npm's ordinary client."""
    if not AXE.exists():
        if shutil.which("npm") is None:
            pytest.skip("npm is not installed")
        NPM.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["npm", "install", "--prefix", str(NPM), "--no-audit", "--no-fund", "axe-core@4"],
            check=True,
            capture_output=True,
            timeout=120,
        )
    return AXE.read_text()
