"""The house's rules about imports and exits (docs/architecture.md), read from the source."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
#: Layers from the bottom up; a module imports its own layer and those below.
PROCESSES = ("peer", "pool", "web", "coordinator", "agent")
#: What each layer may import. Beside the chain stand ``config.model`` (the frozen result,
#: wanted by everybody), the rest of ``config`` (which parses and touches files) and ``log``.
_BELOW_SHELL = {"errors", "contracts", "protocol", "model", "log"}
_BELOW_PROCESSES = _BELOW_SHELL | {"shell", "config", "wording"}
ALLOWED = {
    "errors": {"errors"},
    "wording": {"wording"},  # how numbers read, the same in cli/ and web/: a pure leaf
    "contracts": {"errors", "contracts"},
    "protocol": {"errors", "contracts", "protocol"},
    "model": {"errors", "model"},
    "log": _BELOW_SHELL,
    "shell": _BELOW_SHELL | {"shell"},
    "config": _BELOW_PROCESSES,
    **{name: _BELOW_PROCESSES | {name} for name in (*PROCESSES, "supervisor")},
}
#: Modules at the top that belong together.
LOG_MODULES = {"log", "log_files", "log_lines", "log_stream", "redaction"}
IMPURE = {"socket", "os", "time", "logging", "threading", "gevent", "random"}
#: Modules that may end the process.
MAY_EXIT = {"shell/child.py", "supervisor/fork.py"}

FILES = sorted((ROOT / "kici").rglob("*.py"))


def relative(path: Path) -> str:
    return path.relative_to(ROOT / "kici").as_posix()


def layer_of(dotted: str) -> str:
    """``kici.pool.jobs`` -> pool; ``kici.errors`` -> errors; ``kici`` -> ''."""
    if dotted.startswith("kici.config.model"):
        return "model"
    first = [*dotted.split("."), ""][1]
    return "log" if first in LOG_MODULES else first


def layer(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return layer_of(".".join(part for part in parts if part != "__init__"))


def imports(path: Path) -> Iterator[str]:
    """Dotted names of everything a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the layer"
            if node.module == "kici":
                yield from (f"kici.{alias.name}" for alias in node.names)
            else:
                yield str(node.module)


def exits(path: Path) -> Iterator[int]:
    """Lines that call ``sys.exit``, ``os._exit``, ``exit`` or raise ``SystemExit``."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in {"sys.exit", "os._exit", "exit", "quit", "SystemExit"}:
                yield node.lineno


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_a_module_imports_only_its_own_layer_and_those_below(path):
    own = layer(path)
    if own in ("", "cli"):
        return  # cli/ may import anything
    allowed = ALLOWED[own]
    ours = {name for name in imports(path) if name.startswith("kici.")}
    wrong = {name for name in ours - {"kici.__version__"} if layer_of(name) not in allowed}
    assert not wrong, f"{relative(path)} ({own}) imports {sorted(wrong)}"


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if layer(path) in ("contracts", "protocol", "wording")],
    ids=relative,
)
def test_contracts_and_protocol_are_pure(path):
    wrong = {name for name in imports(path) if name.split(".")[0] in IMPURE}
    assert not wrong, f"{relative(path)} imports {sorted(wrong)}"


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_only_commands_and_mains_end_the_process(path):
    name = relative(path)
    if name.startswith("cli/") or name.endswith("/main.py") or name in MAY_EXIT:
        return
    lines = list(exits(path))
    assert not lines, f"{name} ends the process in lines {lines}"


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_no_module_has_a_name_that_says_nothing(path):
    assert path.stem not in {"utils", "util", "helpers", "common", "misc", "manager"}


def test_the_rules_would_catch_an_offender(tmp_path):
    offender = tmp_path / "offender.py"
    offender.write_text(
        "import os.path\nfrom kici import pool\nfrom kici.web import main\nos._exit(1)\n"
    )
    assert set(imports(offender)) == {"os.path", "kici.pool", "kici.web"}
    assert layer_of("kici.pool.jobs") not in ALLOWED["web"]
    assert layer_of("kici.config.load") not in ALLOWED["shell"]
    assert list(exits(offender)) == [4]
