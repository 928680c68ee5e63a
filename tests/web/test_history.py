"""The history file: bounded, sole writer, survives what disks do."""

from pathlib import Path

import gevent

from kici.web.history import KEEP, History, entry_of
from tests.support.web_child import finished


def entry(number: int, boot: str = "b"):
    return entry_of(finished(number, f"j-{number}", completed_at=float(number)), boot, 0.0)


def test_what_is_added_is_read_back_newest_first(tmp_path: Path) -> None:
    path = str(tmp_path / "h")
    one = History(path, "b")
    for number in range(3):
        assert one.add(entry(number))
    assert [e.job_id for e in History(path, "c").newest(10)] == ["j-2", "j-1", "j-0"]


def test_the_file_stays_bounded(tmp_path: Path) -> None:
    path = tmp_path / "h"
    history = History(str(path), "b")
    for number in range(3 * KEEP):
        history.add(entry(number))
    assert len(path.read_bytes().splitlines()) <= 2 * KEEP
    assert [e.job_id for e in History(str(path), "b").newest(1)] == [f"j-{3 * KEEP - 1}"]


def test_a_line_cut_by_a_power_loss_costs_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "h"
    history = History(str(path), "b")
    history.add(entry(1))
    history.add(entry(2))
    path.write_bytes(path.read_bytes()[:-20])
    again = History(str(path), "b")
    again.add(entry(3))
    assert [e.job_id for e in History(str(path), "b").newest(9)] == ["j-3", "j-1"]


def test_a_directory_that_cannot_be_written_costs_no_job(tmp_path: Path) -> None:
    history = History(str(tmp_path / "missing" / "h"), "b")
    assert history.add(entry(1))
    assert [e.job_id for e in history.newest(9)] == ["j-1"]
    assert "No such file" in history.error


def test_the_same_end_is_kept_once(tmp_path: Path) -> None:
    history = History(str(tmp_path / "h"), "b")
    assert history.add(entry(1))
    assert not history.add(entry(1, boot="other"))
    assert len(history) == 1


def test_a_job_that_never_started_has_no_duration(tmp_path: Path) -> None:
    never = entry_of(finished(1, "j", "failed", started_at=None, completed_at=7.0), "b", 0.0)
    assert (never.started_at, never.duration_ms) == (7.0, 0)


def test_the_first_end_is_written_at_once_and_those_soon_after_it_together(tmp_path):
    path = str(tmp_path / "h")
    one = History(path, "b", together_s=0.1)
    for number in range(4):
        one.add(entry(number))
    assert len(History(path, "c")) == 1
    with gevent.Timeout(5):
        while len(History(path, "c")) < 4:
            gevent.sleep(0.01)


def test_flush_writes_what_waits(tmp_path):
    path = str(tmp_path / "h")
    one = History(path, "b", together_s=60)
    one.add(entry(1))
    one.add(entry(2))
    one.flush()
    assert len(History(path, "c")) == 2
