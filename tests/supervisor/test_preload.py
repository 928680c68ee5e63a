import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from kici.supervisor import preload
preload.patch_ssl()
preload.import_gevent()
import kici.supervisor.worker
{children}
from gevent._hub_local import get_hub_if_exists
assert get_hub_if_exists() is None, "a hub exists in the parent"
import threading
assert threading.active_count() == 1
"""


def run(children: str) -> None:
    program = PROGRAM.format(children=children)
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def test_the_supervisor_itself_makes_no_hub_and_no_thread():
    run("")


def test_importing_the_real_children_makes_no_hub_and_no_thread():
    run("preload.real_children()")
