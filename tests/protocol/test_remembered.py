"""kici/protocol/remembered.py: the last keys, and not more."""

from kici.contracts.link import JobKey
from kici.protocol.remembered import Remembered


def key(number):
    return JobKey(owner="ws://c", run_id="r", job_id=f"j{number}")


def test_at_least_one_generation_is_remembered_and_at_most_two():
    kept = Remembered(10)
    for number in range(100):
        kept.add(key(number))
        assert all(key(one) in kept for one in range(max(0, number - 9), number + 1))
        assert sum(key(one) in kept for one in range(number + 1)) <= 20


def test_an_equal_key_made_anew_is_the_same():
    kept = Remembered()
    kept.add(key(1))
    assert key(1) in kept
    assert key(2) not in kept


def test_a_discarded_key_counts_as_never_seen():
    kept = Remembered(3)
    for number in range(4):
        kept.add(key(number))
    for number in range(4):
        kept.discard(key(number))
    assert not any(key(number) in kept for number in range(4))
