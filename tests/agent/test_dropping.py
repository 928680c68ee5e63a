"""Lines dropped for a slow link are counted in the step's next chunk (agent spec 1.9)."""

import re

from kici.agent.dropping import Dropping
from tests.support.waiting import wait_for

STEP = (
    "seq 1 {n} | sed 's/$/ {filler}/'; touch {tmp}/done; "
    "while [ ! -e {tmp}/go ]; do sleep 0.05; done; echo last"
)
MARKER = re.compile(r"\[(\d+) lines dropped due to backpressure\]")


def test_each_step_has_its_own_count_which_is_said_once():
    dropping = Dropping()
    dropping.drop(0, 3)
    dropping.drop(0, 4)
    dropping.drop(1, 1)
    assert dropping.marker(0) == ("[7 lines dropped due to backpressure]",)
    assert dropping.marker(0) == ()
    assert dropping.marker(1) == ("[1 lines dropped due to backpressure]",)


def test_what_was_not_said_before_the_jobs_end_is_said_then_and_forgotten():
    dropping = Dropping()
    dropping.drop(-1, 2)
    dropping.drop(3, 1)
    assert list(dropping.rest()) == [
        (-1, ("[2 lines dropped due to backpressure]",)),
        (3, ("[1 lines dropped due to backpressure]",)),
    ]
    assert list(dropping.rest()) == []


def test_lines_dropped_after_their_steps_end_are_counted_at_the_jobs_end(
    worker, start_agent, tmp_path
):
    n = 400_000
    start_agent(KICI_BACKPRESSURE_MODE="drop", KICI_MAX_LOG_SIZE_BYTES="100000000")
    side = worker.accept()
    side.register()
    side.reading.clear()
    behind = f"(seq 1 {n} | sed 's/$/ {'x' * 90}/'; touch {tmp_path}/done) &"
    wait = f"while [ ! -e {tmp_path}/done ]; do sleep 0.05; done"
    side.dispatch([{"run": behind}, {"run": wait}])
    wait_for(lambda: list((tmp_path / "agent").glob("kici-*")))
    wait_for(lambda: not list((tmp_path / "agent").glob("kici-*")))
    side.reading.set()
    end = side.until("job.status", state="success")
    lines = side.log_lines(0)
    kept = [line for line in lines if line.endswith("x")]
    n_dropped = sum(int(found[1]) for line in lines if (found := MARKER.fullmatch(line)))
    assert n_dropped > 0
    assert len(kept) + n_dropped == n
    assert end["data"]["logLines"]["0"] == len(lines)


def test_in_mode_drop_a_step_runs_on_and_every_lost_line_is_counted(worker, start_agent, tmp_path):
    n = 250_000
    start_agent(KICI_BACKPRESSURE_MODE="drop", KICI_MAX_LOG_SIZE_BYTES="100000000")
    side = worker.accept()
    side.register()
    side.reading.clear()
    side.dispatch([{"run": STEP.format(n=n, filler="x" * 90, tmp=tmp_path)}])
    wait_for(lambda: (tmp_path / "done").exists(), 14)
    side.reading.set()
    (tmp_path / "go").touch()
    side.until("job.status", state="success")
    lines = side.log_lines(0)
    n_dropped = sum(int(found[1]) for line in lines if (found := MARKER.fullmatch(line)))
    kept = [line for line in lines if line.endswith("x")]
    assert n_dropped > 0
    assert len(kept) + n_dropped in (n, n + 1), "the very last line may be among the dropped"
    numbers = [int(line.split()[0]) for line in kept]
    assert numbers == sorted(numbers)
