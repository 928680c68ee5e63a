"""How long an agent takes that does not exist yet: host process, warm pool, container.

``python -m bench.spawn SOCKET`` measures containers of one engine, from inside its network
namespace: the worker must have the bridge's gateway among its addresses, as it has on a
user's machine.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from bench.report import Report
from bench.work import Work
from bench.worker_end import ROOT, Scalers, rig, scalers_of_host

RUNS = 5
#: Before a reroute the worker has come to rest, and a warm pool is filled.
_REST_S, _WARM_S = 0.5, 4.0
_WARM_CONTAINER_S = 8.0
#: All runs on one engine.
_ENGINE_LIMIT_S = 400.0


def spawn(report: Report) -> None:
    """Reroute -> an agent that did not exist is registered and runs the job."""
    cold = [_spawn(scalers_of_host(slots=2)) for _ in range(RUNS)]
    report.add("spawn: host process, reroute -> job runs", cold, "ms")
    warm = [_spawn(scalers_of_host(slots=2, warm=1), wait_s=_WARM_S) for _ in range(RUNS)]
    report.add("spawn: warm pool, reroute -> job runs", warm, "ms")
    _engines(report)


def _engines(report: Report) -> None:
    try:
        from tests.support.container_engine import RUNTIMES, TestEngine, missing
    except ImportError as error:
        report.note("spawn: Docker, Podman skipped", str(error))
        return
    for runtime in RUNTIMES:
        if reason := missing(runtime):
            report.note(f"spawn: {runtime} skipped", reason)
            continue
        # Short: paths of Unix sockets end at 108 bytes.
        engine = TestEngine(runtime, Path(tempfile.mkdtemp(prefix="kici-")) / f"b{runtime[0]}")
        try:
            engine.start()
            engine.build_image()
            measured = _inside(engine.enter, str(engine.socket))
        except (AssertionError, subprocess.SubprocessError, ValueError) as error:
            report.note(f"spawn: {runtime} failed", str(error)[:500])
            continue
        finally:
            engine.stop()
            engine.clean()
        for title, values in measured.items():
            report.add(f"spawn: {runtime} {title}, reroute -> job runs", values, "ms")


def _inside(enter: tuple[str, ...], socket: str) -> dict[str, list[float]]:
    """What this module measures in the engine's namespace."""
    done = subprocess.run(
        [*enter, sys.executable, "-m", "bench.spawn", socket],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=_ENGINE_LIMIT_S,
        check=False,
    )
    if done.returncode:
        raise ValueError(done.stderr[-500:])
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _spawn(
    scalers: Callable[[int], str], wait_s: float = _REST_S, env: Mapping[str, str] = {}
) -> float:
    """Milliseconds until the real agent has reported ``running``."""
    from bench.jobs import native

    with rig({"KICI_AGENT_AUTH": "token", **env}, scalers=scalers) as made:
        work = Work(made)
        made.loop.rest(wait_s)
        job = native()
        at = time.perf_counter()
        work.link.say(job)
        made.loop.run(lambda: job.job_id in work.running, "agent runs the job", 60)
        running = (work.running[job.job_id] - at) * 1000
        made.loop.run(lambda: job.job_id in work.ended, "job ends", 60)
        return running


def scalers_of_engine(socket: str, *, slots: int, warm: int = 0) -> Scalers:
    """``scalers.yaml`` (JSON is YAML) with our own agent in containers, by port."""
    from tests.support.container_engine import IMAGE, VOLUMES
    from tests.support.engine_house import AGENT, GATEWAY, PARTS

    label_set = {
        "labels": ["linux", "bench", "runtime:native"],
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "volumes": [*VOLUMES, *(f"{part}:{part}:ro" for part in PARTS)],
        "env": {"CODE": AGENT, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
    }

    def text(port: int) -> str:
        scaler = {
            "name": "boxes",
            "type": "container",
            "maxAgents": slots,
            "socketPath": socket,
            "orchestratorUrl": f"ws://{GATEWAY}:{port}/ws",
            "warmPool": {"enabled": warm > 0, "size": warm},
            "labelSets": [label_set],
        }
        return json.dumps({"version": 1, "scalers": [scaler]})

    return text


def _main(socket: str) -> int:
    env = {"KICI_HOST": "0.0.0.0"}  # noqa: S104 (a namespace of its own)
    # The first one makes the network: that is paid once in an engine's life.
    _spawn(scalers_of_engine(socket, slots=2), env=env)
    cold = [_spawn(scalers_of_engine(socket, slots=2), env=env) for _ in range(RUNS)]
    warm = [
        _spawn(scalers_of_engine(socket, slots=2, warm=1), wait_s=_WARM_CONTAINER_S, env=env)
        for _ in range(RUNS)
    ]
    print(json.dumps({"container": cold, "warm container": warm}))
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1]))
