"""kici/protocol/line_numbers.py: what is new, known or missing of a numbered log."""

from kici.protocol.line_numbers import MAX_STEPS, Fit, LineNumbers


def test_lines_in_order_are_new():
    numbers = LineNumbers()
    assert numbers.fit(0, 0, 3) == Fit()
    assert numbers.fit(0, 3, 2) == Fit()
    assert numbers.fit(1, 0, 2) == Fit()
    assert numbers.next == {0: 5, 1: 2}


def test_lines_said_again_are_skipped_also_in_part():
    numbers = LineNumbers({0: 5})
    assert numbers.fit(0, 0, 3) == Fit(skip=3)
    assert numbers.fit(0, 3, 4) == Fit(skip=2)
    assert numbers.next == {0: 7}


def test_lines_that_are_missing_are_counted():
    numbers = LineNumbers({0: 5})
    assert numbers.fit(0, 9, 1) == Fit(n_missing=4)
    assert numbers.fit(0, 5, 1) == Fit(skip=1)


def test_a_chunk_that_stands_for_lost_lines_counts_what_is_lost():
    numbers = LineNumbers({0: 5})
    assert numbers.fit(0, 5, 1, 10) == Fit(skip=1, n_gone=10)
    assert numbers.fit(0, 10, 1, 10) == Fit(skip=1, n_gone=5)
    assert numbers.fit(0, 0, 1, 20) == Fit(skip=1, n_gone=0)
    assert numbers.fit(0, 20, 1) == Fit()


def test_lines_without_numbers_or_with_absurd_ones_are_taken_as_they_come():
    numbers = LineNumbers({0: 5})
    for first in (None, -1, 2**60):
        assert numbers.fit(0, first, 3) == Fit()
    assert numbers.next == {0: 5}


def test_the_number_of_steps_is_bounded():
    numbers = LineNumbers(dict.fromkeys(range(MAX_STEPS), 1))
    assert numbers.fit(MAX_STEPS, 7, 1) == Fit()
    assert len(numbers.next) == MAX_STEPS
