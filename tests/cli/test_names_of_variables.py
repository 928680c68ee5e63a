"""Advice names variables that exist: in docs, rules, checks and pages."""

import re
from pathlib import Path

import pytest

from kici.config.names import unknown_names
from kici.config.settings import NAMES

ROOT = Path(__file__).resolve().parents[2]
FILES = [
    ROOT / "docs/operations.md",
    ROOT / "docs/cli.md",
    ROOT / "conf/prometheus/kici-worker.rules.yaml",
    ROOT / "kici/web/openapi.yaml",
    # The agent's own variables are tested with the agent.
    *sorted(path for path in (ROOT / "kici/cli").rglob("*.py") if path.name != "agent.py"),
    *sorted((ROOT / "kici/web").rglob("*.py")),
]
#: Of other programs: the coordinator, the agent, build scripts.
ELSEWHERE = ("KICI_COORDINATOR_", "KICI_AGENT_TOKEN", "KICI_BUILD_COMMIT", "KICI_URL", "KICI_TOKEN")


def test_there_is_advice_to_check() -> None:
    assert "KICI_ALLOWED_HOSTS" in FILES[0].read_text()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_variables_that_exist_are_named(path: Path) -> None:
    named = set(re.findall(r"\bKICI_[A-Z][A-Z_]*[A-Z]\b", path.read_text()))
    ours = {name: "x" for name in named if not name.startswith(ELSEWHERE)}
    assert not unknown_names(ours, NAMES)
