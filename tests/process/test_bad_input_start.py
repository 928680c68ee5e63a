"""A worker that cannot start says why, names the key and exits (issue 2, "Bad input")."""

import json
import os
import socket
import subprocess
import time

import pytest

from tests.support.attack import TOKEN, Vitals
from tests.support.house import SCRIPTS, House
from tests.support.scripted_coordinator import ScriptedCoordinator
from tests.support.waiting import wait_for

LIMIT_S = 20


def start(house, **changes):
    """``kici-worker run`` to its end: exit code and everything it wrote."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("KICI_")}
    env |= house.worker_env(TOKEN) | {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    env |= {name: value for name, value in changes.items() if value is not None}
    for name in (name for name, value in changes.items() if value is None):
        env.pop(name, None)
    began = time.monotonic()
    done = subprocess.run(
        [str(SCRIPTS / "kici-worker"), "run"],
        env=env,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert time.monotonic() - began < LIMIT_S
    output = done.stdout + done.stderr
    assert TOKEN not in output
    assert "Traceback" not in output, output
    return done.returncode, output


@pytest.fixture
def house(tmp_path):
    return House(tmp_path)


VARIABLES = {
    "no coordinator": (
        {"KICI_CLUSTER_COORDINATOR_URL": None},
        ("KICI_CLUSTER_COORDINATOR_URL", "KICI_CLUSTER_COORDINATOR_URLS"),
    ),
    "no URL": ({"KICI_CLUSTER_COORDINATOR_URL": "not a url"}, ("KICI_CLUSTER_COORDINATOR_URL",)),
    "a file URL": ({"KICI_CLUSTER_COORDINATOR_URL": "file:///etc/passwd"}, ("ws", "file")),
    "a role of nobody": ({"KICI_CLUSTER_ROLE": "Worker"}, ("KICI_CLUSTER_ROLE", "Worker")),
    "a port of letters": ({"KICI_PORT": "four"}, ("KICI_PORT", "four")),
    "a port too high": ({"KICI_PORT": "65536"}, ("KICI_PORT", "65536")),
    "no auth of ours": ({"KICI_AGENT_AUTH": "foo"}, ("KICI_AGENT_AUTH", "foo", "token")),
    "a negative limit": ({"KICI_QUEUE_LIMIT": "-1"}, ("KICI_QUEUE_LIMIT", "-1")),
    "an endless time": ({"KICI_DRAIN_TIMEOUT": "inf"}, ("KICI_DRAIN_TIMEOUT",)),
    "a time of 400 digits": ({"KICI_DRAIN_TIMEOUT": "9" * 400}, ("KICI_DRAIN_TIMEOUT",)),
    "an unknown name": ({"KICI_DRAIN_TIMEOUTS": "5"}, ("KICI_DRAIN_TIMEOUTS", "mean")),
    "two at once": ({"KICI_PORT": "x", "KICI_LOG_LEVEL": "loud"}, ("KICI_PORT", "KICI_LOG_LEVEL")),
}  # fmt: skip


# W4 W10 W11 W12 W13 W17 W33
@pytest.mark.parametrize("case", list(VARIABLES))
def test_a_wrong_variable_ends_the_start_and_is_named(house, case):
    changes, words = VARIABLES[case]
    code, output = start(house, **changes)
    assert code == 1
    for word in words:
        assert word in output


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(12)
)
SCALERS = {
    "no YAML": ("version: [1\n", ()),
    "a bomb of aliases": (BOMB, ("values after expanding aliases",)),
    "an anchor in itself": ("a: &a [*a]\n", ("contains itself",)),
    "nested without end": ("[" * 20_000, ()),
    "the same key twice": ("version: 1\nversion: 1\nscalers: []\n", ("version",)),
    "an object of Python": ("version: !!python/object/apply:os.system ['true']\n", ()),
    "a version of later": ("version: 7\nscalers: []\n", ("version", "7")),
    "a list": ("- 1\n", ()),
    "nothing": ("", ()),
    "bytes": (b"\xff\xfe\x00\x01", ()),
    "a type of nobody": ("version: 1\nscalers:\n- name: a\n  type: lambda\n", ("lambda",)),
    "a text for a number": (
        "version: 1\nscalers:\n- name: a\n  type: bare-metal\n  maxAgents: many\n"
        "  labelSets: [{labels: [a], binaryPath: /bin/true}]\n",
        ("scalers[0].maxAgents",),
    ),
    "overlapping sets": (
        "version: 1\nscalers:\n"
        "- {name: a, type: bare-metal, maxAgents: 1, labelSets: [{labels: [x], binaryPath: /b}]}\n"
        "- {name: b, type: bare-metal, maxAgents: 1, labelSets: [{labels: [x], binaryPath: /b}]}\n",
        ("label-set overlaps",),
    ),
}


# W19 W20
@pytest.mark.parametrize("case", list(SCALERS))
def test_a_bad_scaler_file_ends_the_start_and_is_named(house, case):
    text, words = SCALERS[case]
    house.scalers.write_bytes(text if isinstance(text, bytes) else text.encode())
    code, output = start(house)
    assert code == 1
    for word in (str(house.scalers), *words):
        assert word in output


# W18
@pytest.mark.parametrize("what", ["missing", "a directory", "a FIFO", "endless"])
def test_a_scaler_file_that_is_none_is_named_with_its_reason(house, what):
    house.scalers.unlink()
    path = house.scalers
    if what == "a directory":
        path.mkdir()
    elif what == "a FIFO":
        os.mkfifo(path)
    elif what == "endless":
        path.symlink_to("/dev/zero")
    code, output = start(house)
    assert code == 1
    assert str(path) in output


# W26
def test_a_port_in_use_ends_the_start_and_leaves_no_process(house):
    with socket.create_server(("127.0.0.1", house.port)):
        code, output = start(house)
    assert code == 1
    assert str(house.port) in output
    assert "in use" in output
    left = subprocess.run(["ps", "axeww", "-o", "args="], capture_output=True, text=True).stdout
    assert f"KICI_DATA_DIR={house.root}/data " not in left


# W27 W54
@pytest.mark.parametrize(
    ("variable", "path"),
    [
        ("KICI_DATA_DIR", "file/data"),
        ("KICI_DATA_DIR", "file"),
        ("KICI_RUNTIME_DIR", "file/run"),
        ("KICI_CLUSTER_CREDENTIAL_FILE", "file/credential"),
        ("KICI_LOG_DIR", "file/log"),
    ],
)
def test_a_directory_that_cannot_be_is_named_before_the_token_is_spent(house, variable, path):
    (house.root / "file").write_text("no directory")
    with ScriptedCoordinator() as coordinator:
        changes = {variable: str(house.root / path)}
        code, output = start(house, KICI_CLUSTER_COORDINATOR_URL=coordinator.url, **changes)
        assert code == 1
        assert variable in output
        assert str(house.root / "file") in output
        with pytest.raises(TimeoutError):
            coordinator.accept_raw(0.2)


# W53 P24
@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff\xfe", b'{"instanceId":5}', b"[" * 100_000, b"\0" * 5_000_000],
    ids=lambda c: repr(c[:12]),
)
def test_a_corrupt_credential_file_counts_as_absent(house, content):
    path = house.root / "data/peer-credential"
    path.write_bytes(content)
    with ScriptedCoordinator() as coordinator:
        house.extra_env["KICI_CLUSTER_COORDINATOR_URL"] = coordinator.url
        try:
            house.start_worker(TOKEN, connected=False)
            vitals = Vitals(house)
            link = coordinator.join(15, credential="cd" * 32)
            assert link.request["token"] == TOKEN
            wait_for(lambda: b'"cdcd' in path.read_bytes(), "the new credential")
            assert json.loads(path.read_bytes())["credential"] == "cd" * 32
            assert path.stat().st_mode & 0o777 == 0o600
            link.drop()
            vitals.unharmed()
        finally:
            house.close()
