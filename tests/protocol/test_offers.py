"""kici/protocol/offers.py: a job between offer and receipt."""

import json

import pytest

from kici.contracts.link import JobKey
from kici.contracts.link.jobs import JobCancel, JobOffered, JobStored
from kici.protocol.machine import Forget, Note, Tell
from kici.protocol.offer_actions import Conclude, Promise, Reply, Report, Stored
from kici.protocol.offers import NOT_ANSWERING, Offers

KEY = JobKey(owner="ws://c", run_id="r", job_id="j")


@pytest.fixture
def offers():
    return Offers(lambda: 1000)


def answers(actions):
    return [(a.ack.message_id, a.ack.accepted, a.ack.reason) for a in actions if type(a) is Reply]


def held(offers):
    offers.offered(KEY, "m1", b"{}", 0)
    return offers.accepted(KEY)


# P37
def test_the_acknowledgement_follows_the_durable_promise(offers):
    (offer,) = offers.offered(KEY, "m1", b"{}", 0)
    assert offer == Tell("pool", JobOffered(key=KEY, message_id="m1", reroute=b"{}"))
    promise, reply = offers.accepted(KEY)
    assert promise == Promise(KEY)
    assert (reply.ack.message_id, reply.ack.accepted, reply.owner) == ("m1", True, "ws://c")
    assert offers.accepted(KEY) == []


def test_an_offer_names_the_start_of_the_pool_that_it_is_for(offers):
    """Else the next pool finds it in the socket and starts a job that the last one runs."""
    offers.pool = "boot-1"
    (first,) = offers.offered(KEY, "m1", b"{}", 0)
    offers.pool = "boot-2"
    (again,) = offers.pool_restarted()
    assert (first.message.pool, again.message.pool) == ("boot-1", "boot-2")


def test_a_late_no_to_an_old_offer_ends_no_job_that_an_agent_has(offers):
    held(offers)
    offers.dispatched(KEY)
    offers.pool_restarted()
    assert offers.declined(KEY, "Worker is draining") == []
    assert offers.relays(KEY)


# P37
def test_a_refusal_is_passed_on_and_forgotten(offers):
    offers.offered(KEY, "m1", b"{}", 0)
    assert answers(offers.declined(KEY, "Worker is draining")) == [
        ("m1", False, "Worker is draining")
    ]
    assert [type(a) for a in offers.offered(KEY, "m2", b"{}", 1)] == [Tell]


# P61
def test_a_cancel_outlives_the_pool_that_was_told(offers):
    """Else the next pool starts afresh what nobody wants any more."""
    held(offers)
    cancel = JobCancel(owner="ws://c", run_id="r", job_id=None, reason="by alice")
    offers.cancelled(cancel)
    offers.cancelled(JobCancel(owner="ws://other", run_id="r", job_id=None, reason="no"))
    offer, again = offers.pool_restarted()
    assert isinstance(offer.message, JobOffered)
    assert again == Tell("pool", cancel)
    offers.dispatched(KEY)
    assert offers.pool_restarted() == [Tell("pool", cancel)]
    offers.finished(KEY, b"{}")
    assert offers.pool_restarted() == []


# P37, P60
def test_a_silent_pool_is_refused_for_in_time_and_its_late_yes_is_taken_back(offers):
    offers.offered(KEY, "m1", b"{}", 0)
    assert offers.deadline == 12
    assert offers.tick(11.9) == []
    noted, *rest = offers.tick(12.0)
    assert isinstance(noted, Note)
    assert answers(rest) == [("m1", False, NOT_ANSWERING)]
    (late,) = offers.accepted(KEY)
    assert isinstance(late.message, JobCancel)
    assert not offers.relays(KEY)
    assert offers.finished(KEY, b"{}") == [Tell("pool", JobStored(key=KEY))]
    assert [type(a) for a in offers.offered(KEY, "m2", b"{}", 20)] == [Tell]


# P42
def test_repeats_are_accepted_with_one_execution(offers):
    offers.offered(KEY, "m1", b"{}", 0)
    assert offers.offered(KEY, "m2", b"{}", 1) == []
    assert answers(offers.accepted(KEY)) == [("m1", True, None), ("m2", True, None)]
    assert answers(offers.offered(KEY, "m3", b"{}", 2)) == [("m3", True, None)]
    offers.finished(KEY, b"{}")
    replied, report = offers.offered(KEY, "m4", b"{}", 3)
    assert answers([replied]) == [("m4", True, None)]
    assert report == Report(KEY)


def test_an_undispatched_job_is_offered_again_after_a_pool_restart(offers):
    held(offers)
    (offer,) = offers.pool_restarted()
    assert (offer.message.again, offer.message.reroute) == (True, b"{}")
    assert offers.accepted(KEY) == []
    offers.dispatched(KEY)
    assert offers.pool_restarted() == []


def test_a_refused_second_offer_ends_as_failed(offers):
    held(offers)
    offers.pool_restarted()
    (conclude,) = offers.declined(KEY, "queue full")
    report = json.loads(conclude.frame)
    assert (report["state"], report["data"]["error"]) == ("failed", "queue full")
    assert (report["runId"], report["jobId"], report["kind"]) == ("r", "j", "job")


def test_an_unanswered_offer_is_repeated_as_new_after_a_pool_restart(offers):
    offers.offered(KEY, "m1", b"{}", 0)
    (offer,) = offers.pool_restarted()
    assert (offer.message.again, offer.message.message_id) == (False, "m1")


def test_a_promise_that_the_disk_refuses_becomes_a_refusal(offers):
    held(offers)
    actions = offers.not_promised(KEY, ["m1"], "No space left on device")
    assert answers(actions) == [("m1", False, "Outbox cannot be written: No space left on device")]
    assert isinstance(actions[-1].message, JobCancel)


# P56, P74
def test_nothing_is_relayed_after_the_terminal_report_and_a_receipt_removes_it(offers):
    held(offers)
    assert offers.relays(KEY)
    assert offers.finished(KEY, b"{}") == [Conclude(KEY, b"{}")]
    assert not offers.relays(KEY)
    assert offers.receipted(KEY) == [Forget(KEY)]
    assert offers.receipted(KEY) == [Forget(KEY)]


def test_what_the_outbox_held_is_known_after_a_restart(offers):
    other = JobKey(owner="ws://c", run_id="r", job_id="done")
    offers.restore([KEY], [other])
    assert offers.relays(KEY)
    assert not offers.relays(other)
    replied, offer = offers.offered(KEY, "m1", b"{}", 0)
    assert answers([replied]) == [("m1", True, None)]
    assert offer.message.again


# P37, P53
def test_a_yes_to_an_offer_of_the_peer_before_us_is_taken_back(offers):
    """It was never acknowledged, or it would have an open record: others may run it by now."""
    (late,) = offers.accepted(KEY)
    assert isinstance(late.message, JobCancel)
    assert not offers.relays(KEY)
    assert offers.finished(KEY, b"{}") == [Tell("pool", JobStored(key=KEY))]
    assert [type(a) for a in offers.offered(KEY, "m2", b"{}", 20)] == [Tell]


# P53
def test_an_end_of_a_job_that_was_never_acknowledged_is_not_reported(offers):
    assert offers.finished(KEY, b"{}") == [Stored(KEY)]
    assert [type(a) for a in offers.offered(KEY, "m2", b"{}", 20)] == [Tell]
