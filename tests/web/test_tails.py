"""What a step prints is bounded in bytes too, however long its lines are."""

import sys

from hypothesis import given
from hypothesis import strategies as st

from kici.web.ansi import MAX_LINE_CHARS
from kici.web.feed import BACKLOG_BYTES, MAX_TAILS, TAIL_BYTES, Feed
from kici.web.tails import Piece, Tails, fitting, shortened
from tests.web.test_api import tail


def feed() -> Feed:
    return Feed(lambda _watch: None)


def n_bytes(tails) -> int:
    return sum(sys.getsizeof(line) for each in tails for line in each.tail.lines)


def test_long_lines_are_cut_and_what_is_cut_is_marked() -> None:
    assert shortened("x" * MAX_LINE_CHARS) == "x" * MAX_LINE_CHARS
    long = shortened("x" * 2**20)
    assert (len(long), long[-2:]) == (MAX_LINE_CHARS, "x…")


def test_of_a_long_progress_bar_the_last_state_stays() -> None:
    assert shortened("\r".join(f"{n} %" for n in range(5000)) + "\r") == "4999 %"


def test_the_tail_of_a_job_is_bounded_in_bytes() -> None:
    one = feed()
    for number in range(400):
        one.log(tail("j-1", f"{number} " + "ä" * 2**20))
    with one.subscribe("j-1") as reader:
        shown = reader.take_tails()
    assert shown[-1].tail.lines[0].startswith("399 ")
    assert 0.8 * TAIL_BYTES < n_bytes(shown) <= TAIL_BYTES


def test_one_message_of_many_long_lines_is_bounded_and_the_reader_is_told() -> None:
    one = feed()
    with one.subscribe("j-1") as reader:
        one.log(tail("j-1", *(f"{number} " + "x" * 10_000 for number in range(400))))
        (shown,) = reader.take_tails()
    assert shown.tail.lines[-1].startswith("399 ")
    assert n_bytes([shown]) <= TAIL_BYTES
    assert reader.n_missed == 400 - len(shown.tail.lines)


def test_a_slow_reader_is_bounded_in_bytes_and_told_what_it_missed() -> None:
    one = feed()
    with one.subscribe("j-1") as reader:
        for _ in range(1000):
            one.log(tail("j-1", "x" * 5000))
        shown = reader.take_tails()
        assert n_bytes(shown) <= BACKLOG_BYTES
        assert reader.n_missed == 1000 - len(shown)
        one.log(tail("j-1", "next"))
        assert [each.tail.lines for each in reader.take_tails()] == [("next",)]


def test_the_jobs_that_printed_last_are_remembered_until_they_end() -> None:
    one = feed()
    for number in range(MAX_TAILS + 1):
        one.log(tail(f"j-{number}", "line"))
        one.log(tail("j-0", "goes on"))
    assert one.remembered() == {"j-0", *(f"j-{number}" for number in range(2, MAX_TAILS + 1))}
    one.ended("j-0")
    one.ended("j-0")
    assert "j-0" not in one.remembered()


@given(st.lists(st.lists(st.text(max_size=50), max_size=5), max_size=30))
def test_bounds_hold_and_every_line_is_kept_or_counted(messages: list[list[str]]) -> None:
    kept, n_gone, n_all = Tails(max_lines=7, max_bytes=2000), 0, 0
    for lines in messages:
        one, n_cut = fitting(tail("j-1", *lines), 7, 2000)
        n_gone += n_cut + kept.add(Piece(1, one))
        n_all += len(lines)
        assert kept.n_lines == sum(len(each.tail.lines) for each in kept) <= 7
        assert kept.n_bytes <= 2000
    assert sum(len(each.tail.lines) for each in kept.take()) + n_gone == n_all
    assert (kept.n_lines, kept.n_bytes) == (0, 0)
