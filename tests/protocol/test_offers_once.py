"""One job, one start, one end: what the fault simulator found in the peer's book of offers."""

from kici.contracts.link import JobKey
from kici.contracts.link.jobs import JobOffered
from kici.protocol.machine import Tell
from kici.protocol.offer_actions import Conclude, Stored
from kici.protocol.offers import Offers

KEY = JobKey(owner="ws://c:1", run_id="r", job_id="j")


def held():
    offers = Offers(lambda: 1)
    offers.offered(KEY, "m1", b"{}", 0.0)
    offers.accepted(KEY)
    return offers


def reoffers(actions):
    return [a for a in actions if isinstance(a, Tell) and isinstance(a.message, JobOffered)]


# P42
def test_a_dispatched_job_is_not_started_again_by_a_repeated_offer_to_a_new_pool():
    offers = held()
    offers.dispatched(KEY)
    offers.pool_restarted()
    assert not reoffers(offers.offered(KEY, "m2", b"{}", 1.0))


# P42
def test_a_job_that_no_agent_had_is_started_by_a_repeated_offer_to_a_new_pool():
    offers = Offers(lambda: 1)
    offers.restore([KEY], [])
    assert reoffers(offers.offered(KEY, "m2", b"{}", 1.0))


# P56
def test_a_job_whose_end_is_receipted_is_not_concluded_once_more():
    offers = held()
    assert any(isinstance(action, Conclude) for action in offers.finished(KEY, b"success"))
    offers.receipted(KEY)
    assert offers.finished(KEY, b"failed") == [Stored(key=KEY)]


# P37
def test_a_job_that_is_offered_anew_after_its_end_can_end_anew():
    offers = held()
    offers.finished(KEY, b"cancelled")
    offers.receipted(KEY)
    offers.offered(KEY, "m3", b"{}", 2.0)
    offers.accepted(KEY)
    assert any(isinstance(action, Conclude) for action in offers.finished(KEY, b"success"))
