"""A worker that comes back, with or without what it had accepted (C47, C49, C52, C59)."""

import msgspec
import pytest

from kici.contracts.wire.peer.jobs import Matcher, PeerLogChunk
from kici.coordinator.job import HOLDER_GRACE_S, RETURN_WINDOW_S, SPAWN_WINDOW_S
from kici.coordinator.store import Store, StoreError
from kici.coordinator.vault import Vault
from tests.coordinator.world import World, native


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path / "data")
    yield made
    made.store.close()


def lose_link(world):
    world.disconnect("w1")


def restart(world):
    world.restart()


def supersede(world):
    """The newer connection is there before the older one's end was noticed (3.10)."""


LOSSES = pytest.mark.parametrize("lose", [lose_link, restart, supersede])


def accepted(world):
    """A job that w1 has accepted, and its offer; nobody else can take it yet."""
    world.connect("w1", native())
    job = world.submit()
    return job, world.accepted("w1")


# C47: it accepted, lost the link, and came back as if nothing had been.
@LOSSES
def test_job_that_a_returned_worker_forgot_moves_to_another_one(world, lose):
    job, old = accepted(world)
    lose(world)
    world.connect("w1", native())
    world.connect("w2", native())
    world.pass_time(RETURN_WINDOW_S - 1)
    assert world.state(job) == "accepted"
    assert world.links["w1"].take("peer.job.cancel") == []
    world.pass_time(1)
    (order,) = world.links["w1"].take("peer.job.cancel")
    assert order["reason"] == "reroute spawn window elapsed"
    assert world.accepted("w2")["jobId"] == job.job_id == old["jobId"]


# C47
def test_job_that_nobody_else_can_take_fails_instead_of_waiting_for_a_day(world):
    job, _ = accepted(world)
    lose_link(world)
    world.connect("w1", native())
    world.pass_time(RETURN_WINDOW_S)
    assert world.state(job) == "failed"
    assert "no available backend" in world.rows.shown(job.job_id)["reason"]


# C38, C46: whatever the first worker says later, one execution is reported.
@pytest.mark.parametrize("late", ["before the second ends", "after the second ended"])
def test_late_end_of_a_worker_whose_job_moved_is_acknowledged_and_changes_nothing(world, late):
    job, old = accepted(world)
    lose_link(world)
    world.connect("w1", native())
    world.connect("w2", native())
    world.pass_time(RETURN_WINDOW_S)
    world.links["w1"].take("peer.job.cancel")
    new = world.accepted("w2")
    world.report("w1", old, "running")
    assert len(world.links["w1"].take("peer.job.cancel")) == 1
    world.report("w2", new, "running")
    if late == "before the second ends":
        world.report("w1", old, "success")
        assert world.state(job) == "running"
    world.report("w2", new, "failed")
    if late == "after the second ended":
        world.report("w1", old, "success")
    assert world.state(job) == "failed"
    assert len(world.links["w1"].take("job.progress.ack")) == 1


# C47: any word about it, before or after the return, and silence proves nothing.
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("word", ["queued", "running", "step", "log"])
@LOSSES
def test_job_of_which_the_worker_has_spoken_is_left_to_it(world, lose, word, when):
    job, reroute = accepted(world)
    if when == "before":
        speak(world, reroute, word)
        world.store.commit()
    lose(world)
    world.connect("w1", native())
    if when == "after":
        speak(world, reroute, word)
    world.connect("w2", native())
    world.pass_time(RETURN_WINDOW_S * 3)
    assert world.state(job) in ("accepted", "running")
    assert world.links["w2"].take("job.reroute") == []


def speak(world, reroute, word):
    if word == "log":
        chunk = PeerLogChunk(
            run_id=reroute["runId"], job_id=reroute["jobId"], step_index=0, lines=("x",)
        )
        world.dispatcher.reports.log("w1", chunk, world.now)
    elif word == "step":
        world.report("w1", reroute, "running", kind="step", step_name="s")
    else:
        world.report("w1", reroute, word)


# C48: news from its scaler show that it knows of the job; they shorten nothing.
def test_news_from_the_scaler_after_a_return_do_not_end_the_window_early(world):
    job, reroute = accepted(world)
    world.pass_time(SPAWN_WINDOW_S - 1)
    lose_link(world)
    world.connect("w1", native())
    world.pass_time(RETURN_WINDOW_S - 10)
    world.scaler_event("w1", reroute, "scaler.provisioning", "pulling")
    world.pass_time(9)
    assert world.state(job) == "accepted"
    world.pass_time(1)
    assert world.state(job) == "failed"


# C49: while the worker is away nothing but its return is waited for.
def test_window_does_not_run_while_the_worker_is_away(world):
    job, _ = accepted(world)
    world.pass_time(SPAWN_WINDOW_S - 1)
    lose_link(world)
    world.pass_time(HOLDER_GRACE_S - 1)
    assert world.state(job) == "accepted"
    world.connect("w1", native())
    world.pass_time(RETURN_WINDOW_S - 1)
    assert world.state(job) == "accepted"


# C52: a newer version may read less; one such job must not keep the coordinator from starting.
@pytest.mark.parametrize(
    "payload",
    [
        b"{}",
        b"not json",
        b"[" * 100_000,
        b'{"pattern": "("}',
    ],
    ids=["empty", "no JSON", "deep", "pattern"],
)
def test_job_whose_payload_nobody_can_read_fails_and_the_others_go_on(world, payload):
    bad, good = world.submit(), world.submit()
    if b"pattern" in payload:
        matcher = Matcher(kind="regex", source="(", flags="")
        odd = msgspec.structs.replace(bad.reroute, runs_on_patterns=(matcher,))
        payload = msgspec.json.encode(odd)
    sealed = Vault(world.path).seal(bad.job_id, payload)
    world.store.write("UPDATE jobs SET sealed = ? WHERE job_id = ?", sealed, bad.job_id)
    world.store.commit()
    world.restart()
    assert world.state(bad) == "failed"
    assert "cannot be read" in world.rows.shown(bad.job_id)["reason"]
    world.connect("w1", native())
    assert world.offer("w1")["jobId"] == good.job_id


def test_full_disk_at_the_start_leaves_such_a_job_for_later(world, monkeypatch):
    bad = world.submit()
    world.store.write("UPDATE jobs SET sealed = NULL")
    world.store.commit()

    def full(store):
        store.rollback()
        raise StoreError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(Store, "commit", full)
        world.store._db.close()
        world._start()
    assert world.state(bad) == "queued"
    world.restart()
    assert world.state(bad) == "failed"
