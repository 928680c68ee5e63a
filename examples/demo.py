"""make demo: one machine, the whole chain, one real job, nothing left behind.

Starts the embedded coordinator and a worker on free loopback ports, joins with a fresh token,
runs ``examples/demo.yaml`` (which clones a small git repository made here; one of its steps has
a secret that must come out masked), follows the live log, prints a summary, stops everything.
Exit code 0 when the job succeeded and the secret stayed secret.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.support.house import House  # noqa: E402

SECRET = "swordfish-" + os.urandom(6).hex()


def make_repository(path: Path) -> str:
    """A git repository with one commit on branch ``main``; its sha."""
    path.mkdir()
    (path / "greeting.txt").write_text("hello from a repository\n")
    identity = ["-c", "user.name=demo", "-c", "user.email=demo@localhost"]
    for command in (
        ["init", "-q", "-b", "main"],
        ["add", "."],
        [*identity, "commit", "-q", "-m", "Say hello"],
    ):
        subprocess.run(["git", "-C", str(path), *command], check=True)
    shown = ["git", "-C", str(path), "rev-parse", "HEAD"]
    return subprocess.run(shown, check=True, capture_output=True, text=True).stdout.strip()


def job_file(root: Path, repository: Path, sha: str) -> Path:
    """``demo.yaml`` with the repository that was just made."""
    text = (ROOT / "examples/demo.yaml").read_text()
    path = root / "demo.yaml"
    path.write_text(text.replace("@REPOSITORY@", f"file://{repository}").replace("@SHA@", sha))
    return path


def run(root: Path) -> int:
    sha = make_repository(root / "repository")
    house = House(root / "house")
    begun = time.monotonic()
    try:
        house.start_coordinator()
        print(f"coordinator  http://127.0.0.1:{house.coordinator_port}")
        house.start_worker(house.join_token())
        status = house.status()
        print(
            f"worker       http://127.0.0.1:{house.port}  {status['instanceId']}, "
            f"{status['coordinatorConnection']} after {time.monotonic() - begun:.1f} s"
        )
        output = follow(house, job_file(root, root / "repository", sha))
    finally:
        house.close()
    print(f"stopped      coordinator, worker, agents; {time.monotonic() - begun:.1f} s in all")
    if SECRET in output:
        print("the secret was NOT masked", file=sys.stderr)
        return 1
    return 0


def follow(house: House, path: Path) -> str:
    """Run the job and show its live log; what it printed."""
    command = ["kici", "run", str(path), "--follow"]
    print(f"job          kici run {path.name} --follow\n", flush=True)
    env = os.environ | {
        "KICI_URL": f"http://127.0.0.1:{house.coordinator_port}",
        "KICI_COORDINATOR_DATA_DIR": str(house.root / "coordinator"),
        "DEMO_SECRET": SECRET,
    }
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
        lines = []
        for line in process.stdout:
            lines.append(line)
            print("   ", line, end="", flush=True)
    if process.returncode:
        sys.exit(f"the job failed: exit code {process.returncode}")
    print()
    return "".join(lines)


def main() -> int:
    root = Path(tempfile.mkdtemp(prefix="kici-demo-"))
    (root / "house").mkdir()
    try:
        return run(root)
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    sys.exit(main())
