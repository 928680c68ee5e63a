"""A booted systemd of Debian 13 in which the package is installed."""

import itertools
import os
import subprocess
import time
from pathlib import Path

TOOL = Path(__file__).parent / "tools/boot-systemd"
TREES = Path(os.environ.get("CACHE", "/var/tmp/kici-trees"))
#: One cached layer with what the package depends on and what the tests use: installing it
#: again for each machine would need a network inside and a minute each time.
LAYER = "kicipkg"
_PACKAGES = (
    "git python3-cryptography python3-docker python3-flask python3-gevent",
    "python3-gevent-websocket python3-msgspec python3-prometheus-client python3-yaml",
    "python3-pythonjsonlogger python3-setproctitle python3-websockets supervisor",
    "jq python3-apt ansible-core cloud-init",
)
_BOOT_S = 60
_numbers = itertools.count(1)


def prepare() -> None:
    """Make the cached tree and layer (a minute, once a machine)."""
    subprocess.run([TOOL, "make", "trixie"], check=True, timeout=600, stdout=subprocess.DEVNULL)
    subprocess.run(
        [TOOL, "layer", "trixie", LAYER, *_PACKAGES],
        check=True,
        timeout=600,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


class Machine:
    """Owns: one container with systemd as PID 1; ``with`` boots it and throws it away."""

    def __init__(self, name: str) -> None:
        # Several may run at once: one of a whole file, one of a test.
        self.name = f"{name}{os.getpid()}n{next(_numbers)}"
        self.root = TREES / "run" / self.name / "root"

    def __enter__(self) -> "Machine":
        environment = {**os.environ, "LAYER": LAYER}
        subprocess.run(
            [TOOL, "start", self.name],
            check=True,
            timeout=_BOOT_S,
            env=environment,
            stdout=subprocess.DEVNULL,
        )
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run([TOOL, "stop", self.name], check=True, timeout=_BOOT_S)

    def try_run(self, script: str, timeout_s: float = 60) -> tuple[int, str]:
        """Run a shell script inside; its exit code and what it printed."""
        done = subprocess.run(
            [TOOL, "exec", self.name, "sh", "-c", script],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
        )
        return done.returncode, done.stdout.strip()

    def run(self, script: str, timeout_s: float = 60) -> str:
        code, output = self.try_run(f"set -e\n{script}", timeout_s)
        assert code == 0, f"{script}\n-> {code}\n{output}\n{self.journal()}"
        return output

    def wait_for(self, script: str, timeout_s: float = 20) -> str:
        """Run ``script`` until it succeeds; its output."""
        deadline = time.monotonic() + timeout_s
        while True:
            code, output = self.try_run(script)
            if code == 0:
                return output
            assert time.monotonic() < deadline, f"{script}\n{output}\n{self.journal()}"
            time.sleep(0.1)

    def power_off(self, timeout_s: float) -> None:
        """As ``systemctl poweroff``; returns when the machine is off, its files still there."""
        pid = int((self.root.parent / "nspawn.pid").read_text())
        self.try_run("systemctl --no-block poweroff")
        deadline = time.monotonic() + timeout_s
        while Path(f"/proc/{pid}").exists():
            assert time.monotonic() < deadline, "still on"
            time.sleep(0.1)

    def put(self, path: str, content: str, mode: int = 0o644) -> None:
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)
        target.chmod(mode)

    def journal(self) -> str:
        return self.try_run("journalctl -u kici-worker -u kici-coordinator -o cat | tail -30")[1]
