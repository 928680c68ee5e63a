"""The launchd service, as far as it can be tested without a Mac."""

import getpass
import os
import plistlib
import subprocess
import sys
from pathlib import Path

MACOS = Path(__file__).parents[2] / "packaging/macos"


def test_the_property_list_restarts_after_crashes_only_and_waits_for_the_drain():
    plist = plistlib.loads((MACOS / "dev.kici.worker.plist").read_bytes())
    assert plist["KeepAlive"] == {"SuccessfulExit": False}
    assert plist["ExitTimeOut"] > 300
    assert plist["AbandonProcessGroup"] is True
    assert plist["Umask"] == 0o77
    assert plist["StandardOutPath"] == "/dev/null"


def _launch(tmp_path, text, *command):
    file = tmp_path / "worker.env"
    file.write_text(text)
    return subprocess.run(
        [MACOS / "kici-worker-launch", file, *command],
        capture_output=True,
        text=True,
        timeout=10,
        env={"PATH": os.environ["PATH"]},
    )


def test_the_launcher_passes_the_variables_of_the_file_and_expands_nothing(tmp_path):
    text = (
        "# a comment\n\n;another\nKICI_PORT=4001\nQUOTED='two words'\nDOUBLE=\"a b\"\n"
        "DOLLAR=$HOME`id`\nWITH=a=b\nnot a line\nBAD-NAME=x\nLAST=no newline"
    )
    done = _launch(tmp_path, text, "env")
    assert done.returncode == 0, done.stderr
    variables = dict(line.split("=", 1) for line in done.stdout.splitlines())
    del variables["PATH"]
    variables.pop("PWD", None)
    variables.pop("_", None)
    assert variables == {
        "KICI_PORT": "4001",
        "QUOTED": "two words",
        "DOUBLE": "a b",
        "DOLLAR": "$HOME`id`",
        "WITH": "a=b",
        "LAST": "no newline",
    }


def test_the_launcher_becomes_the_worker_so_that_signals_reach_it(tmp_path):
    done = _launch(tmp_path, "A=1\n", "sh", "-c", "echo $PPID")
    assert int(done.stdout) == os.getpid()


def test_installing_and_removing_leaves_configuration_until_purge(tmp_path):
    """With a root of its own and stand-ins for the parts that need the network or launchd."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "launchctl").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/launchctl\n')
    (tools / "python").write_text(
        f'#!/bin/sh\nif [ "$1" = -m ]; then mkdir -p "$3/bin"; '
        f'printf "#!/bin/sh\\n" > "$3/bin/pip"; chmod +x "$3/bin/pip"; '
        f'else exec {sys.executable} "$@"; fi\n'
    )
    for tool in tools.iterdir():
        tool.chmod(0o755)
    root = tmp_path / "root"
    environ = {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "KICI_INSTALL_ROOT": str(root),
        "PYTHON": str(tools / "python"),
    }
    subprocess.run(
        [MACOS / "install.sh", "--user", getpass.getuser()],
        check=True,
        env=environ,
        capture_output=True,
    )
    env_file = root / "usr/local/etc/kici/worker.env"
    assert env_file.stat().st_mode & 0o777 == 0o600
    assert "\nKICI_DATA_DIR=/usr/local/var/kici\n" in env_file.read_text()
    logs = "/usr/local/var/log/kici"
    assert f"\nKICI_LOG_DIR={logs}\n" in env_file.read_text()
    rotated = (root / "etc/newsyslog.d/kici-worker.conf").read_text().split()[0]
    assert rotated == f"{logs}/worker.err.log"
    plist = plistlib.loads((root / "Library/LaunchDaemons/dev.kici.worker.plist").read_bytes())
    assert plist["ProgramArguments"] == [
        "/usr/local/kici/libexec/kici-worker-launch",
        "/usr/local/etc/kici/worker.env",
    ]
    assert "@" not in repr(plist)
    assert plist["EnvironmentVariables"]["KICI_LOG_DIR"] == logs
    assert plist["StandardErrorPath"] == rotated
    assert "bootstrap system" in (tmp_path / "launchctl").read_text()
    env_file.write_text("KICI_PORT=1\n")
    subprocess.run(
        [MACOS / "install.sh", "--user", getpass.getuser(), "--no-start"],
        check=True,
        env=environ,
        capture_output=True,
    )
    assert env_file.read_text() == "KICI_PORT=1\n"
    subprocess.run([MACOS / "uninstall.sh"], check=True, env=environ)
    assert env_file.exists()
    subprocess.run([MACOS / "uninstall.sh", "--purge"], check=True, env=environ)
    assert [path for path in root.rglob("*") if path.is_file()] == []
