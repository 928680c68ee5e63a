"""A real Docker or Podman for tests, in a network namespace and a storage of its own."""

import io
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import docker

ROOT = Path(__file__).resolve().parent.parent.parent
#: Beside the repository on development machines and in CI.
TOOL = ROOT.parent / "shared" / "tools" / "container-engine"
#: Runs the Python program in ``$CODE``; wants ``VOLUMES``.
IMAGE = "kici-agent-test:1"
_BASE = "kici-test:1"
#: In the engine's namespace; plain HTTP is allowed there.
REGISTRY_PORT = 5055
#: Not all of /usr: engines put their init process into /usr/sbin.
VOLUMES = ("/usr/bin:/usr/bin:ro", "/usr/lib:/usr/lib:ro", "/usr/lib64:/usr/lib64:ro")
_DOCKERFILE = f"""FROM {_BASE}
WORKDIR /usr/bin
WORKDIR /usr/lib
WORKDIR /usr/lib64
WORKDIR /usr/sbin
WORKDIR /
CMD ["/usr/bin/python3", "-c", "import os; exec(os.environ['CODE'])"]
"""
RUNTIMES = ("docker", "podman")
_PROGRAM = {"docker": "dockerd", "podman": "podman"}


class TestEngine:
    """Owns: one engine process and its directory."""

    __test__ = False

    def __init__(self, runtime, directory):
        self.runtime = runtime
        self.directory = Path(directory)
        self.socket = self.directory / "engine.sock"
        #: The tool names the namespace after the directory.
        self.enter = ("nsenter", f"--net=/run/netns/kici-{self.directory.name}")
        self.nft = (*self.enter, "nft")

    @property
    def url(self):
        return f"unix://{self.socket}"

    def start(self):
        self.directory.mkdir(parents=True, exist_ok=True)
        registries = self.directory / "registries.conf"
        registries.write_text(
            f'[[registry]]\nlocation = "127.0.0.1:{REGISTRY_PORT}"\ninsecure = true\n'
        )
        environ = {**os.environ, "CONTAINERS_REGISTRIES_CONF": str(registries)}
        self._tool("start", self.runtime, str(self.directory), env=environ)

    def stop(self):
        if (self.directory / "engine.pid").exists():
            self._tool("stop", str(self.directory))
        else:  # it was killed and did not come back
            name = self.enter[1].rpartition("/")[2]
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
        self.socket.unlink(missing_ok=True)

    def kill(self):
        """SIGKILL; ``start`` brings it back with what it had."""
        # Docker's containerd dies with it. Where nobody reaps orphans both numbers stay taken,
        # and a start that finds them in a file believes in them.
        theirs = self.directory / "exec" / "containerd" / "containerd.pid"
        files = [self.directory / "engine.pid", *([theirs] if theirs.exists() else [])]
        pids = [int(file.read_text()) for file in files]
        os.kill(pids[0], signal.SIGKILL)
        deadline = time.monotonic() + 10
        while any(Path(f"/proc/{pid}/exe").exists() for pid in pids):
            assert time.monotonic() < deadline, f"{self.runtime} does not die"
            time.sleep(0.02)
        for file in (*files, self.socket):
            file.unlink(missing_ok=True)

    def answers(self):
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.socket)) == 0

    def build_image(self):
        self._tool("image", str(self.directory), _BASE)
        client = docker.APIClient(base_url=self.url, version="auto")
        try:
            answers = client.build(
                fileobj=io.BytesIO(_DOCKERFILE.encode()),
                tag=IMAGE,
                network_mode="none",
                rm=True,
                decode=True,
            )
            failures = [one["error"] for one in answers if "error" in one]
        finally:
            client.close()
        assert not failures, failures

    def clean(self):
        """What the engine leaves mounted and on disk."""
        mounts = Path("/proc/mounts").read_text().splitlines()
        inside = [
            line.split()[1] for line in mounts if line.split()[1].startswith(f"{self.directory}/")
        ]
        for mount in sorted(inside, key=len, reverse=True):
            subprocess.run(["umount", "-l", mount], check=False, capture_output=True)
        shutil.rmtree(self.directory.parent, ignore_errors=True)

    @property
    def pid(self):
        return int((self.directory / "engine.pid").read_text())

    def _tool(self, *arguments, env=None):
        done = subprocess.run(
            ["bash", str(TOOL), *arguments],
            env=env,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def missing(runtime):
    """Why ``runtime`` cannot be used here; empty when it can."""
    if not TOOL.exists():
        return f"{TOOL} is missing"
    if os.geteuid() != 0:
        return "needs root"
    return "" if shutil.which(_PROGRAM[runtime]) else f"{_PROGRAM[runtime]} is not installed"
