"""kici/peer/outbox.py on a real directory."""

import errno
import json
import os
import stat

import msgspec
import pytest

from kici.contracts.link import JobKey
from kici.peer import outbox_record
from kici.peer.outbox import Outbox
from kici.protocol.offer_actions import failed
from kici.shell import durable

URL = "ws://coordinator.internal:4000"
KEY = JobKey(owner=URL, run_id="r1", job_id="j1")
REPORT = {"type": "job.progress", "kind": "job", "runId": "r1", "jobId": "j1", "state": "success"}
FRAME = json.dumps(REPORT).encode()


class Clock:
    now = 1_772_353_012.4

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def make(tmp_path, clock):
    def fresh(*urls):
        made = Outbox(tmp_path / "outbox", urls or (URL,), max_age_s=86400, wall=clock)
        made.load()
        return made

    return fresh


def names(tmp_path):
    """Of records: what hashes of URLs mean is kept."""
    return sorted(
        path.name for path in (tmp_path / "outbox").iterdir() if path.suffix != outbox_record.URL
    )


# P53, P56
def test_a_job_is_open_then_concluded_then_gone(make, tmp_path):
    outbox = make()
    outbox.open(KEY, "coord-a")
    assert names(tmp_path) == ["0a26f906b5649bf5__r1__j1__1772353012400__coord-a.open"]
    assert outbox.conclude(KEY, FRAME) == FRAME
    (name,) = names(tmp_path)
    assert name == "0a26f906b5649bf5__r1__j1.json"
    path = tmp_path / "outbox" / name
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    stored = json.loads(path.read_bytes())
    assert (stored["coordUrl"], stored["message"]) == (URL, REPORT)
    assert stored["persistedAt"] == 1_772_353_012_400
    assert outbox.concluded(URL) == [KEY]
    assert outbox.message(KEY) == FRAME
    assert outbox.confirmed_key(URL, "r1", "j1") == KEY
    assert outbox.forget(KEY)
    assert not outbox.forget(KEY)
    assert names(tmp_path) == []


# P53
def test_file_and_directory_are_fsynced_around_the_rename(make, tmp_path, monkeypatch):
    outbox, steps = make(), []
    for name in ("fsync", "replace"):
        real = getattr(os, name)

        def record(*args, name=name, real=real):
            is_directory = name == "fsync" and stat.S_ISDIR(os.fstat(args[0]).st_mode)
            steps.append("fsync directory" if is_directory else name)
            return real(*args)

        monkeypatch.setattr(os, name, record)
    outbox.conclude(KEY, FRAME)
    # The name first: one journal commit then covers both.
    assert steps == ["replace", "fsync", "fsync directory"]


def test_a_job_costs_three_fsyncs_in_all(make, monkeypatch):
    outbox, n_fsyncs, real = make(), [], os.fsync
    outbox.open(JobKey(owner=URL, run_id="r1", job_id="before"), None)
    monkeypatch.setattr(os, "fsync", lambda fd: (n_fsyncs.append(fd), real(fd)))
    outbox.open(KEY, None)
    outbox.conclude(KEY, FRAME)
    outbox.forget(KEY)
    assert len(n_fsyncs) == 3
    assert make().keys(is_open=False) == []


# P54
def test_everything_is_found_again_after_a_restart(make, tmp_path):
    outbox = make()
    other = JobKey(owner=URL, run_id="r1", job_id="j2")
    outbox.open(KEY, None)
    outbox.open(other, None)
    outbox.conclude(KEY, FRAME)
    again = make()
    assert again.keys(is_open=True) == [other]
    assert again.concluded(URL) == [KEY]
    assert again.message(KEY) == FRAME
    state = again.state(7)
    assert (state.rev, state.n_concluded, [job.key for job in state.open]) == (7, 1, [other])
    assert state.n_bytes > 0


def test_a_crash_between_conclusion_and_removal_counts_as_concluded(make, tmp_path):
    outbox = make()
    outbox.open(KEY, None)
    (kept,) = names(tmp_path)
    outbox.conclude(KEY, FRAME)
    (tmp_path / "outbox" / kept).touch()
    again = make()
    assert again.keys(is_open=True) == []
    assert again.concluded(URL) == [KEY]
    assert names(tmp_path) == ["0a26f906b5649bf5__r1__j1.json"]


# P53
def test_an_open_record_is_an_empty_file_whose_entry_is_durable(make, tmp_path, monkeypatch):
    outbox, synced, real = make(), [], os.fsync
    outbox.open(JobKey(owner=URL, run_id="r1", job_id="before"), None)

    def fsync(fd):
        synced.append(stat.S_ISDIR(os.fstat(fd).st_mode))
        real(fd)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        outbox.open(KEY, "coord-a")
    assert synced == [True]
    path = tmp_path / "outbox" / names(tmp_path)[0]
    assert path.stat().st_size == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


# P37
@pytest.mark.parametrize("file_too", [False, True])
def test_where_directories_cannot_be_synced_the_file_is(make, tmp_path, monkeypatch, file_too):
    outbox, real = make(), os.fsync
    outbox.open(JobKey(owner=URL, run_id="r1", job_id="before"), None)

    def fsync(fd):
        if file_too or stat.S_ISDIR(os.fstat(fd).st_mode):
            refuse()
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    if file_too:
        with pytest.raises(OSError, match="No space"):
            outbox.open(KEY, None)
    else:
        outbox.open(KEY, None)
    monkeypatch.undo()
    assert len(names(tmp_path)) == (1 if file_too else 2)
    assert (KEY in make().keys(is_open=True)) is not file_too


# P54
@pytest.mark.parametrize("coordinator_id", [None, "coord-a", "a__b", "ä"])
@pytest.mark.parametrize("job_id", ["j", "a_b", "a__b", "_a", "a_", "a-b.c", "a~b", "x" * 200, "É"])
def test_an_open_record_is_found_again_whatever_its_ids_are(make, job_id, coordinator_id):
    key = JobKey(owner=URL, run_id="r_1", job_id=job_id)
    make().open(key, coordinator_id)
    again = make()
    assert again.keys(is_open=True) == [key]
    again.conclude(key, FRAME)
    assert again._records[key].coordinator_id == coordinator_id


# P54
def test_an_open_record_of_a_url_that_is_configured_no_more_keeps_its_owner(make, tmp_path):
    make().open(KEY, "coord-a")
    later = make("ws://new")
    assert later.keys(is_open=True) == [KEY]
    later.adopt_orphans("ws://new", "coord-a", any_cluster=False)
    later.conclude(KEY, FRAME)
    assert later.concluded("ws://new") == [KEY]
    later.forget(KEY)
    make("ws://new")
    assert list((tmp_path / "outbox").iterdir()) == []


# P57
def test_a_name_whose_url_nobody_knows_is_put_aside(make, tmp_path):
    make().open(KEY, None)
    (path,) = (tmp_path / "outbox").glob("*.url")
    path.write_text("ws://another")
    assert make().keys(is_open=True) == [KEY]
    assert make("ws://new").keys(is_open=True) == []
    assert [name[-4:] for name in names(tmp_path)] == [".bad"]


# P54 W108
def test_a_record_of_the_reference_is_read_and_ours_has_its_keys(make, tmp_path, clock):
    durable.make_directory(tmp_path / "outbox")
    record = {"coordUrl": URL, "message": REPORT, "persistedAt": int(clock.now * 1000)}
    path = tmp_path / "outbox" / "0a26f906b5649bf5__r1__j1.json"
    path.write_text(json.dumps(record, separators=(",", ":")))
    outbox = make()
    assert outbox.concluded(URL) == [KEY]
    assert json.loads(outbox.message(KEY)) == REPORT


@pytest.mark.parametrize("spelling", [URL + "/", URL + "/ws/peer", URL.replace("ws", "http", 1)])
def test_another_spelling_of_the_url_finds_its_records(make, tmp_path, spelling):
    make().conclude(KEY, FRAME)
    outbox = make(spelling)
    (key,) = outbox.concluded(spelling)
    assert outbox.message(key) == FRAME
    assert outbox.confirmed_key(spelling, "r1", "j1") == key
    outbox.forget(key)
    assert names(tmp_path) == []


def test_records_of_a_url_that_is_gone_go_to_the_same_coordinator_or_later_to_any(make):
    make().conclude(KEY, FRAME, "coord-a")
    outbox = make("ws://new", "ws://other")
    outbox.adopt_orphans("ws://other", "coord-b", any_cluster=False)
    assert outbox.concluded("ws://other") == []
    outbox.adopt_orphans("ws://new", "coord-a", any_cluster=False)
    assert outbox.concluded("ws://new") == [KEY]
    assert outbox.confirmed_key("ws://new", "r1", "j1") == KEY
    late = make("ws://other")
    late.adopt_orphans("ws://other", "coord-b", any_cluster=True)
    assert late.concluded("ws://other") == [KEY]


# P57
def test_bad_records_are_put_aside_and_do_not_prevent_the_start(make, tmp_path):
    make().conclude(KEY, FRAME)
    directory = tmp_path / "outbox"
    bad = ["", "{}", "[", '{"coordUrl":"","message":{"runId":"r","jobId":"j"},"persistedAt":1}']
    for number, text in enumerate(bad):
        (directory / f"bad{number}.json").write_text(text)
    (directory / "bad.open").write_bytes(b"\xff")
    (directory / "left.json.tmp").write_bytes(b"half")
    assert make().concluded(URL) == [KEY]
    quarantined = [name for name in names(tmp_path) if name.endswith(".bad")]
    assert len(quarantined) == 5
    assert not any(name.endswith(".tmp") for name in names(tmp_path))
    assert make().concluded(URL) == [KEY]


# P57 W109 W110
def test_records_past_their_age_are_deleted_at_start_and_while_running(make, tmp_path, clock):
    outbox = make()
    outbox.conclude(KEY, FRAME)
    open_key = JobKey(owner=URL, run_id="r", job_id="open")
    outbox.open(open_key, None)
    clock.now += 86399
    assert outbox.prune() == []
    clock.now += 2
    assert outbox.prune() == [KEY]
    assert outbox.n_expired == 1
    assert outbox.keys(is_open=True) == [open_key]
    outbox.conclude(KEY, FRAME)
    clock.now += 86401
    assert make().concluded(URL) == []


def test_the_age_of_results_is_not_that_of_jobs_that_run(make, clock):
    outbox = make()
    outbox.open(JobKey(owner=URL, run_id="r", job_id="long"), None)
    assert outbox.state(1).oldest_result_at is None
    clock.now += 3600
    outbox.conclude(KEY, FRAME)
    clock.now += 60
    state = outbox.state(2)
    assert (clock.now - state.oldest_at, clock.now - state.oldest_result_at) == (3660, 60)


# P57
def test_a_disk_that_keeps_a_stale_record_ends_nothing(make, clock, monkeypatch):
    def read_only(path):
        raise OSError(30, "Read-only file system")

    outbox, discard = make(), durable.discard
    outbox.conclude(KEY, FRAME)
    clock.now += 86401
    monkeypatch.setattr(durable, "discard", read_only)
    assert outbox.prune() == []
    assert make().concluded(URL) == [KEY]
    monkeypatch.setattr(durable, "discard", discard)
    assert outbox.prune() == [KEY]


# P49
def test_ids_that_look_like_one_name_have_records_of_their_own(make):
    outbox = make()
    one = JobKey(owner=URL, run_id="x__y", job_id="z")
    two = JobKey(owner=URL, run_id="x", job_id="y__z")
    three = JobKey(owner=URL, run_id="x_", job_id="z")
    four = JobKey(owner=URL, run_id="x", job_id="_z")
    for key in (one, two, three, four):
        outbox.conclude(key, failed(key, key.job_id, 1))
    for key in (one, two, three, four):
        assert make().message(key) == failed(key, key.job_id, 1)


# P58
@pytest.mark.parametrize(
    "bad", ["../../x", "/etc/passwd", "a/../b", "..", ".", "", "\x00", "ä" * 100, "x" * 5000, "~a"]
)
def test_no_id_leaves_the_directory(make, tmp_path, bad):
    key = JobKey(owner=URL, run_id=bad or "r", job_id=bad or "..")
    outbox = make()
    outbox.open(key, None)
    report = REPORT | {"runId": key.run_id, "jobId": key.job_id}
    outbox.conclude(key, json.dumps(report).encode())
    assert [path.name for path in tmp_path.iterdir()] == ["outbox"]
    (name,) = names(tmp_path)
    assert len(name) <= 220
    assert make().concluded(URL) == [key]


def test_ids_that_look_alike_have_different_files():
    ids = ["a_b", "a/b", "a%2Fb", "a", "A", "x" * 91, "x" * 92]
    keys = [JobKey(owner=URL, run_id="r", job_id=each) for each in ids]
    assert len({outbox_record.stem(key) for key in keys}) == len(ids)


# P72
@pytest.mark.parametrize("data", [{"outputs": {"s": "x" * (5 * 2**20)}}, {"o": "x" * (5 * 2**20)}])
def test_a_huge_report_is_cut_and_says_so(make, data):
    report = REPORT | {"data": data | {"durationMs": 5}}
    sent = make().conclude(KEY, json.dumps(report).encode())
    assert len(sent) < outbox_record.MAX_MESSAGE_BYTES
    told = msgspec.json.decode(sent)
    assert "dropped" in told["data"]["error"]
    assert told["state"] == "success"


# P53, P57
@pytest.mark.parametrize("written_later", [True, False])
def test_the_promise_does_not_outlive_a_conclusion_that_the_disk_refused_at_first(
    make, monkeypatch, written_later
):
    outbox = make()
    outbox.open(KEY, None)
    with monkeypatch.context() as patched:
        patched.setattr(durable, "write_new", refuse)
        with pytest.raises(OSError, match="No space"):
            outbox.conclude(KEY, FRAME)
    assert outbox.is_unwritten(KEY)
    if written_later:
        assert outbox.retry_unwritten() == [KEY]
    assert outbox.forget(KEY)
    again = make()
    again.load()
    assert again.keys(is_open=True) == again.keys(is_open=False) == []


def refuse(*_args, **_more):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_refuses_keeps_the_report_in_memory_and_is_tried_again(make, monkeypatch):
    outbox = make()

    def refuse(path, data, mode=0o600):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(durable, "write_new", refuse)
        patch.setattr(durable, "write_atomic", refuse)
        with pytest.raises(OSError, match="No space"):
            outbox.conclude(KEY, FRAME)
        assert outbox.message(KEY) == FRAME
        assert outbox.retry_unwritten() == []
    assert outbox.retry_unwritten() == [KEY]
    assert make().concluded(URL) == [KEY]


# P53
def test_the_first_end_of_a_job_counts(make):
    outbox = make()
    outbox.open(KEY, None)
    outbox.conclude(KEY, FRAME)
    outbox.conclude(KEY, FRAME.replace(b"success", b"failed"))
    assert outbox.message(KEY) == FRAME


# P53
def test_an_end_that_is_in_memory_only_is_told_as_open(make, monkeypatch):
    outbox = make()
    outbox.open(KEY, None)
    with monkeypatch.context() as patched:
        patched.setattr(durable, "write_new", refuse)
        with pytest.raises(OSError, match="No space"):
            outbox.conclude(KEY, FRAME)
    assert [one.key for one in outbox.state(1).open] == [KEY]
    outbox.retry_unwritten()
    assert outbox.state(2).open == ()
