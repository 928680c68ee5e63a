"""The life of a job at the coordinator (C43-C52, C59, C61), under a clock of the test's."""

import sqlite3

import pytest

from kici.contracts.wire.peer.jobs import PeerLogChunk
from kici.coordinator.job import (
    CANCEL_DEADLINE_S,
    DEADLINE_MARGIN_S,
    HOLDER_GRACE_S,
    SPAWN_LIMIT_S,
    SPAWN_WINDOW_S,
)
from kici.coordinator.logs import Logs
from kici.coordinator.store import Store, StoreError
from tests.coordinator.world import WALL, World, native


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path / "data")
    yield made
    made.store.close()


@pytest.fixture
def running(world):
    """A world, a job that runs at w1, and its offer."""
    world.connect("w1", native())
    job = world.submit()
    reroute = world.accepted("w1")
    world.report("w1", reroute, "running")
    assert world.state(job) == "running"
    return world, job, reroute


def log_texts(world, job):
    import msgspec

    chunks, _ = world.logs.read(job.job_id, 0)
    return [line["text"] for c in chunks for line in msgspec.json.decode(c["lines"])]


def chunk(reroute, *lines):
    return PeerLogChunk(
        run_id=reroute["runId"], job_id=reroute["jobId"], step_index=0, lines=lines, timestamp=1
    )


# C43
def test_unknown_job_is_ignored_and_its_end_acknowledged(world):
    link = world.connect("w1")
    stranger = {"runId": "r", "jobId": "j"}
    world.report("w1", stranger, "running")
    assert link.take("job.progress.ack") == []
    world.report("w1", stranger, "failed")
    ack = {"type": "job.progress.ack", "runId": "r", "jobId": "j", "state": "failed"}
    assert link.take("job.progress.ack") == [ack]


# C44
def test_only_the_holder_is_believed(running):
    world, job, reroute = running
    world.connect("w2")
    world.report("w2", reroute, "failed")
    world.dispatcher.reports.log("w2", chunk(reroute, "forged"), world.now)
    world.scaler_event("w2", reroute, "scaler.failed")
    assert world.state(job) == "running"
    assert log_texts(world, job) == []
    assert len(world.links["w2"].take("job.progress.ack")) == 1


# C45
def test_end_is_acknowledged_after_commit_and_a_duplicate_changes_nothing(running):
    world, job, reroute = running
    world.report("w1", reroute, "success", data={"outputs": {"a": 1}})
    with sqlite3.connect(world.store.path) as other:  # sees committed rows only
        state = other.execute("SELECT state FROM jobs").fetchone()[0]
    other.close()
    assert state == "success"
    world.report("w1", reroute, "failed")
    acks = world.links["w1"].take("job.progress.ack")
    assert [ack["state"] for ack in acks] == ["success", "failed"]
    assert world.state(job) == "success"


# C45
def test_end_that_cannot_be_committed_is_not_acknowledged(running, monkeypatch):
    world, job, reroute = running

    def full():
        world.store.rollback()
        raise StoreError("database or disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(world.store, "commit", full)
        world.report("w1", reroute, "success")
    assert world.links["w1"].take("job.progress.ack") == []
    assert world.state(job) == "running"
    world.report("w1", reroute, "success")
    assert len(world.links["w1"].take("job.progress.ack")) == 1
    assert world.state(job) == "success"


# C46
def test_end_from_a_former_holder_is_acknowledged_and_not_applied(world):
    world.connect("w1", native())
    job = world.submit()
    old = world.accepted("w1")
    world.connect("w2", native())
    world.pass_time(SPAWN_WINDOW_S)
    new = world.accepted("w2")
    world.report("w1", old, "cancelled")
    assert len(world.links["w1"].take("job.progress.ack")) == 1
    assert world.state(job) == "accepted"
    world.report("w2", new, "success")
    assert world.state(job) == "success"


# C47
def test_job_without_progress_moves_to_another_peer_under_the_same_id(world):
    world.connect("w1", native())
    world.submit()
    old = world.accepted("w1")
    world.connect("w2", native())
    world.pass_time(SPAWN_WINDOW_S - 1)
    assert world.links["w2"].take("job.reroute") == []
    world.pass_time(1)
    (order,) = world.links["w1"].take("peer.job.cancel")
    assert order["reason"] == "reroute spawn window elapsed"
    assert world.offer("w2")["jobId"] == old["jobId"] == order["jobId"]


# C47
def test_job_without_progress_and_without_another_peer_fails(world):
    world.connect("w1", native())
    job = world.submit()
    world.accepted("w1")
    world.pass_time(SPAWN_WINDOW_S)
    assert world.state(job) == "failed"
    assert "no available backend" in world.rows.shown(job.job_id)["reason"]


def test_job_without_progress_waits_when_another_peer_is_only_busy(world):
    world.connect("w1", native())
    job = world.submit()
    world.accepted("w1")
    world.connect("w2", native(free=0, active=1))
    world.pass_time(SPAWN_WINDOW_S)
    assert world.state(job) == "queued"
    world.beat("w2", native())
    assert world.offer("w2")["jobId"] == job.job_id


def test_news_from_the_scaler_extend_the_window_up_to_a_limit(world):
    world.connect("w1", native())
    job = world.submit()
    reroute = world.accepted("w1")
    for _ in range(10):
        world.pass_time(SPAWN_WINDOW_S - 5)
        world.scaler_event("w1", reroute, "scaler.provisioning", "pulling")
    assert world.state(job) == "accepted"
    world.pass_time(SPAWN_LIMIT_S - 10 * (SPAWN_WINDOW_S - 5))
    assert world.state(job) == "failed"


# C48
def test_failed_spawn_moves_the_job_at_once_but_not_after_progress(world):
    world.connect("w1", native())
    job = world.submit()
    reroute = world.accepted("w1")
    world.connect("w2", native())
    world.scaler_event("w1", reroute, "scaler.failed", "no space left on device")
    moved = world.accepted("w2")
    assert moved["jobId"] == job.job_id
    world.report("w2", moved, "running")
    world.scaler_event("w2", moved, "scaler.failed")
    assert world.state(job) == "running"


def test_moved_job_that_a_former_holder_starts_after_all_is_cancelled_there(world):
    world.connect("w1", native())
    world.submit()
    reroute = world.accepted("w1")
    world.connect("w2", native())
    world.pass_time(SPAWN_WINDOW_S)
    world.links["w1"].take("peer.job.cancel")
    world.report("w1", reroute, "running")
    assert len(world.links["w1"].take("peer.job.cancel")) == 1


# C49
def test_job_of_a_lost_worker_waits_and_a_replayed_end_counts(running):
    world, job, reroute = running
    world.disconnect("w1")
    world.pass_time(HOLDER_GRACE_S - 1)
    assert world.state(job) == "running"
    world.connect("w1")
    world.pass_time(HOLDER_GRACE_S * 2)
    world.report("w1", reroute, "success")
    assert world.state(job) == "success"


# C50
def test_job_of_a_worker_that_stays_away_fails_and_is_not_resurrected(running):
    world, job, reroute = running
    world.disconnect("w1")
    world.pass_time(HOLDER_GRACE_S)
    assert world.state(job) == "failed"
    assert world.rows.shown(job.job_id)["reason"] == "worker lost: w1"
    link = world.connect("w1")
    world.report("w1", reroute, "success")
    assert len(link.take("job.progress.ack")) == 1
    assert world.state(job) == "failed"


# C51
def test_cancel_is_sent_to_the_holder_whose_answer_ends_the_job(running):
    world, job, reroute = running
    assert world.dispatcher.cancel(job.job_id, "by alice", False, world.now)
    (order,) = world.links["w1"].take("peer.job.cancel")
    assert order == {
        "type": "peer.job.cancel", "runId": job.run_id, "jobId": job.job_id, "reason": "by alice"
    }  # fmt: skip
    assert world.state(job) == "cancelling"
    world.report("w1", reroute, "running")
    assert world.state(job) == "cancelling"
    world.report("w1", reroute, "cancelled")
    assert world.state(job) == "cancelled"
    assert not world.dispatcher.cancel(job.job_id, "again", False, world.now)


# C51
def test_cancel_without_an_answer_is_ended_by_us(running):
    world, job, _ = running
    world.dispatcher.cancel(job.job_id, "x", True, world.now)
    assert world.links["w1"].take("peer.job.cancel")[0]["force"] is True
    world.pass_time(CANCEL_DEADLINE_S - 1)
    assert world.state(job) == "cancelling"
    world.pass_time(1)
    assert world.state(job) == "cancelled"


def test_cancel_is_repeated_when_the_holder_comes_back(running):
    world, job, _ = running
    world.disconnect("w1")
    world.dispatcher.cancel(job.job_id, "x", False, world.now)
    link = world.connect("w1")
    assert len(link.take("peer.job.cancel")) == 1


def test_cancel_of_a_waiting_job_ends_it_at_once(world):
    job = world.submit()
    world.dispatcher.cancel(job.job_id, "not needed", False, world.now)
    assert world.state(job) == "cancelled"
    assert world.connect("w1", native()).take("job.reroute") == []


@pytest.mark.parametrize(("accepted", "state"), [(True, "cancelling"), (False, "cancelled")])
def test_cancel_between_offer_and_answer(world, accepted, state):
    link = world.connect("w1", native())
    job = world.submit()
    reroute = world.offer("w1")
    world.dispatcher.cancel(job.job_id, "x", False, world.now)
    world.ack("w1", reroute, accepted=accepted)
    assert world.state(job) == state
    assert len(link.take("peer.job.cancel")) == (2 if accepted else 1)


# C52, C59
def test_running_job_survives_a_restart_when_its_worker_returns_in_time(running):
    world, job, reroute = running
    world.restart()
    world.pass_time(HOLDER_GRACE_S - 1)
    assert world.state(job) == "running"
    world.connect("w1")
    world.pass_time(600)
    world.report("w1", reroute, "success")
    assert world.state(job) == "success"


# C52
def test_every_state_goes_on_after_a_restart(world):
    world.connect("w1", native(free=3))
    offered, accepted, cancelling = (world.submit() for _ in range(3))
    offers = {o["jobId"]: o for o in world.links["w1"].take("job.reroute")}
    for job in (accepted, cancelling):
        world.ack("w1", offers[job.job_id])
    world.dispatcher.cancel(cancelling.job_id, "x", False, world.now)
    world.store.commit()
    queued = world.submit(name="later")
    world.restart()
    link = world.connect("w1", native(free=0, active=3))
    assert [o["jobId"] for o in link.take("job.reroute")] == [offered.job_id]
    assert [o["jobId"] for o in link.take("peer.job.cancel")] == [cancelling.job_id]
    assert world.state(queued) == "queued"
    assert world.state(accepted) == "accepted"
    world.disconnect("w1")
    world.pass_time(HOLDER_GRACE_S)
    assert world.state(accepted) == "failed"
    assert world.state(cancelling) == "cancelled"


def test_job_that_was_sealed_with_another_key_fails_honestly(world):
    job = world.submit()
    (world.path / "payload.key").unlink()
    world.restart(crash=False)
    assert world.state(job) == "failed"


# C61
def test_repeated_running_report_does_not_move_the_start(running):
    world, job, reroute = running
    world.report("w1", reroute, "running", timestamp=WALL + 90_000)
    assert world.rows.shown(job.job_id)["startedAt"] == WALL


def test_placed_job_has_a_deadline_of_its_own(world):
    world.connect("w1", native())
    job = world.submit(timeout=60)
    world.report("w1", world.accepted("w1"), "running")
    world.pass_time(60 + DEADLINE_MARGIN_S - 1)
    assert world.state(job) == "running"
    world.pass_time(1)
    assert world.state(job) == "timed_out_stale"
    assert len(world.links["w1"].take("peer.job.cancel")) == 1


def test_log_beyond_its_bound_is_counted_and_said(running):
    world, job, reroute = running
    world.dispatcher.reports._logs = world.logs = logs = Logs(world.store, max_bytes=200)
    world.dispatcher._endings._logs = logs
    for _ in range(5):
        world.dispatcher.reports.log("w1", chunk(reroute, "x" * 50, "y"), world.now)
    world.report("w1", reroute, "success")
    texts = log_texts(world, job)
    stored = [text for text in texts if not text.startswith("[kici]")]
    assert texts[-1] == f"[kici] {10 - len(stored)} lines were not stored"
    assert "[kici] log limit of 200 bytes reached" in texts
    assert world.rows.shown(job.job_id)["logLinesDropped"] == 10 - len(stored)


def test_log_lines_lost_with_a_failed_commit_are_counted(running):
    world, job, reroute = running
    world.dispatcher.reports.log("w1", chunk(reroute, "kept"), world.now)
    world.store.commit()
    world.dispatcher.reports.log("w1", chunk(reroute, "lost", "lost too"), world.now)
    world.store.rollback()
    world.report("w1", reroute, "success")
    assert log_texts(world, job) == ["kept", "[kici] 2 lines were not stored"]


def refuse(monkeypatch, world):
    """Every commit fails until the context ends, as on a full disk."""

    def full():
        world.store.rollback()
        raise StoreError("database or disk is full")

    monkeypatch.setattr(world.store, "commit", full)


def test_submission_on_a_full_disk_is_refused_and_sends_nothing(world, monkeypatch):
    link = world.connect("w1", native())
    with monkeypatch.context() as patched:
        refuse(patched, world)
        with pytest.raises(StoreError):
            world.submit()
    assert link.take("job.reroute") == []
    assert world.dispatcher.placement.jobs == {}
    world.submit()
    assert len(link.take("job.reroute")) == 1


def test_deadline_on_a_full_disk_is_judged_again_later(running, monkeypatch):
    world, job, _ = running
    world.disconnect("w1")
    with monkeypatch.context() as patched:
        refuse(patched, world)
        world.pass_time(HOLDER_GRACE_S + 5)
        assert world.state(job) == "running"
    world.pass_time(1)
    assert world.state(job) == "failed"


# C36, C52
def test_offer_that_a_full_disk_kept_back_on_reconnect_is_judged_later(world, monkeypatch):
    world.connect("w1", native())
    job = world.submit()
    world.offer("w1")
    world.restart()
    with monkeypatch.context() as patched:
        refuse(patched, world)
        world.connect("w1", native())
        world.pass_time(1)
    world.pass_time(16)  # the acknowledgement's 15 s
    assert world.state(job) == "queued"


def test_absurd_numbers_of_a_worker_are_stored_as_what_fits(running):
    world, job, reroute = running
    odd = {"timestamp": 1e300, "step_index": -1e300}
    world.report("w1", reroute, "running", kind="step", step_name="s", **odd)
    world.report("w1", reroute, "running", timestamp=1e300)
    huge = PeerLogChunk(
        run_id=job.run_id, job_id=job.job_id, step_index=1e300, lines=("x",), timestamp=1e300
    )
    world.dispatcher.reports.log("w1", huge, world.now)
    world.report("w1", reroute, "success", timestamp=-1e300)
    assert world.state(job) == "success"
    assert log_texts(world, job) == ["x"]


def numbered(reroute, first, *texts, covered=None):
    return PeerLogChunk(
        run_id=reroute["runId"],
        job_id=reroute["jobId"],
        step_index=0,
        lines=texts,
        timestamp=WALL,
        first_line=first,
        n_covered=covered,
    )


# P63
def test_numbered_lines_are_kept_once_and_gaps_are_counted(running):
    world, job, reroute = running
    log = world.dispatcher.reports.log
    log("w1", numbered(reroute, 0, "a", "b"), world.now)
    log("w1", numbered(reroute, 0, "a", "b", "c"), world.now)
    log("w1", numbered(reroute, 5, "f"), world.now)
    log("w1", numbered(reroute, 6, "(gone)", covered=4), world.now)
    log("w1", numbered(reroute, 8, "(gone, partly here)", covered=4), world.now)
    log("w1", numbered(reroute, 12, "m"), world.now)
    assert log_texts(world, job) == [
        "a",
        "b",
        "c",
        "[kici] 2 lines are missing here: a process that held them died, or a disk was full",
        "f",
        "(gone)",
        "[kici] 2 lines are missing here",
        "m",
    ]


def test_line_numbers_survive_a_crash_together_with_their_lines(running):
    world, job, reroute = running
    world.dispatcher.reports.log("w1", numbered(reroute, 0, "a"), world.now)
    world.store.commit()
    world.restart(crash=True)
    world.connect("w1", native())
    world.dispatcher.reports.log("w1", numbered(reroute, 0, "a", "b"), world.now)
    assert log_texts(world, job) == ["a", "b"]


def test_a_database_of_the_first_version_is_taken_over(tmp_path):
    store = Store(tmp_path, lambda: 1)
    store.close()
    with sqlite3.connect(tmp_path / "coordinator.db") as db:
        db.executescript("DROP TABLE log_lines; DROP TABLE step_sums; PRAGMA user_version = 1;")
    db.close()
    store = Store(tmp_path, lambda: 1)
    assert store.read("SELECT * FROM log_lines") == []
    store.close()


# P63, C53
def test_the_lost_tail_of_a_log_is_counted_by_the_length_that_the_end_tells(running):
    world, job, reroute = running
    world.dispatcher.reports.log("w1", numbered(reroute, 0, "a"), world.now)
    lengths = {"0": 4, "1": 2, "x": 9, "3": "many", "-1": 0}
    world.report("w1", reroute, "success", data={"logLines": lengths})
    why = "a process that held them died, or a disk was full"
    assert log_texts(world, job) == [
        "a",
        f"[kici] 3 lines are missing here: {why}",
        f"[kici] 2 lines are missing here: {why}",
    ]


# C53
def test_lines_that_a_refused_commit_took_are_counted_where_they_are_missing(running):
    world, job, reroute = running
    world.dispatcher.reports.log("w1", numbered(reroute, 0, "a"), world.now)
    world.store.commit()
    world.dispatcher.reports.log("w1", numbered(reroute, 1, "b", "c"), world.now)
    world.store.rollback()
    world.dispatcher.reports.log("w1", numbered(reroute, 3, "d"), world.now)
    why = "a process that held them died, or a disk was full"
    assert log_texts(world, job) == ["a", f"[kici] 2 lines are missing here: {why}", "d"]
