"""A day without the coordinator: what is kept stays bounded, what was promised arrives.

Run as ``python -m tests.chaos.memory.absence``; prints JSON for ``tests/chaos/test_absence.py``.
"""

import json
import sys
import tempfile
from pathlib import Path

from tests.chaos.memory.loop import install

LOOP = install()

import gevent  # noqa: E402
import msgspec  # noqa: E402

from tests.chaos.memory import check, world  # noqa: E402
from tests.chaos.memory.agent import Script  # noqa: E402
from tests.chaos.memory.history import BASE  # noqa: E402
from tests.chaos.memory.run import _watch_errors  # noqa: E402

SPOOL_BYTES = 2**20
DAY_S = 86400.0


def main(directory: Path) -> int:
    """Three jobs of an hour that write 10 MB each into a spool of 1 MiB."""
    world.install()
    sim = world.World(LOOP, 6, directory)
    _watch_errors(sim)
    gevent.sleep(0.05)
    sim.configure()
    settings = msgspec.structs.replace(sim.config.settings, log_spool_max_bytes=SPOOL_BYTES)
    sim.config = msgspec.structs.replace(sim.config, settings=settings)
    for _ in range(world.MAX_AGENTS):
        script = Script(sim.random)
        script.steps, script.chunk, script.width = [(20_000, 3600.0)], 20, 500
        script.end, script.clean_s = "success", 0.0
        sim._scripts[f"planned {len(sim._scripts)}"] = script
    planned = list(sim._scripts.values())
    sim.script = lambda job_id: planned[sorted(sim.jobs).index(job_id)]
    sim.start_worker()
    gevent.sleep(3)
    one = sim.coordinators[0]
    for _ in planned:
        sim.submit(one)
    gevent.sleep(20)
    for each in sim.coordinators:
        each.kill()
    samples = []
    for _hour in range(24):
        gevent.sleep(DAY_S / 24)
        samples.append(_sample(sim))
    for each in sim.coordinators:
        each.start()
    until = sim.now + 600
    while check.idle(sim) and sim.now < until:
        gevent.sleep(1)
    gevent.sleep(1)
    check.check(sim)
    rows = one.service.store.read("SELECT state FROM jobs")
    states = [row["state"] for row in rows]
    print(json.dumps({"samples": samples, "states": states, "violations": sim.history.violations}))
    sim.close()
    return 0


def _sample(sim: world.World) -> dict[str, int]:
    """What could grow."""
    peer, pool = sim.mains["peer"], sim.mains["pool"]
    spool = Path(sim.config.settings.runtime_dir, "log-spool")
    return {
        "spool_files": sum(path.stat().st_size for path in spool.glob("*")),
        "spool_counted": peer._spool.n_bytes,
        "lost_lines": peer._spool.n_lost_lines,
        "queued": sum(flow.outflow._queued_bytes for flow in peer._coordinators.values()),
        "pool_waiting": pool._core.board.outflow._n_bytes,
        "pool_undone": len(pool._undone),
        "pool_jobs": len(pool._core.board.jobs),
        "concluded": len(peer._outbox.keys(is_open=False)),
        "agents": len(sim.agents),
    }


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="kici-absence-", dir=BASE) as its_own:
        sys.exit(main(Path(its_own)))
