"""The job slot of an agent while the last job is cleaned up and the next one waits."""

import pytest

from kici.protocol.agent_speech import (
    EXIT_REFUSED,
    LINGER_S,
    CancelJob,
    Dial,
    Exit,
    Ping,
    RunJob,
)
from tests.protocol.test_agent_client import Driver, only, types


def waiting():
    """A registered agent that cleans up after j1 and has acknowledged j2."""
    driver = Driver()
    driver.connect()
    driver.dispatch()
    driver.take(driver.machine.job_finished("success", {}, driver.now))
    driver.dispatch("j2")
    return driver


def ends(sent, job_id):
    return [f for f in sent if f["type"] == "job.status" and f["jobId"] == job_id]


# A97
def test_a_job_that_waits_for_the_clean_up_is_listed_like_one_that_runs():
    driver = waiting()
    driver.take(driver.machine.lost("gone", driver.now))
    driver.tick_until(Dial)
    register, _ = driver.connect()
    assert [job["jobId"] for job in register["inFlightJobs"]] == ["j1", "j2"]
    driver.take(driver.machine.job_cleaned(driver.now))
    assert only(driver.actions, RunJob)[0].dispatch.job_id == "j2"


# A99
def test_a_job_that_waits_for_the_clean_up_fails_when_the_agent_is_stopped():
    driver = waiting()
    [end] = ends(driver.take(driver.machine.stop(driver.now)), "j2")
    assert (end["state"], end["data"]["error"]) == ("failed", "agent was stopped")
    assert ("r1", "j2") in driver.machine.outbox.jobs_ended()
    driver.take(driver.machine.job_cleaned(driver.now))
    assert not only(driver.actions, RunJob)
    driver.tick_until(Ping)
    driver.take(driver.machine.ponged(driver.now))
    assert only(driver.actions, Exit)


# A96
def test_a_job_that_waits_for_the_clean_up_is_not_started_by_a_refused_agent():
    driver = waiting()
    driver.take(driver.machine.lost("scope", driver.now, 4010))
    assert ("r1", "j2") in driver.machine.outbox.jobs_ended()
    driver.take(driver.machine.job_cleaned(driver.now))
    assert not only(driver.actions, RunJob)
    assert only(driver.actions, Exit)[0].code == EXIT_REFUSED


# A95 A97
def test_a_cancel_ends_the_job_that_waits_and_its_end_is_kept():
    driver = waiting()
    cancel = {"messageId": "c", "runId": "r1", "jobId": "j2", "reason": "by me"}
    [end] = ends(driver.say("job.cancel", **cancel), "j2")
    assert (end["state"], end["data"]["error"]) == ("cancelled", "by me")
    assert ("r1", "j2") in driver.machine.outbox.jobs_ended()
    driver.take(driver.machine.job_cleaned(driver.now))
    assert not only(driver.actions, RunJob)


def test_a_dispatch_of_the_job_that_waits_is_acknowledged_again_and_runs_once():
    driver = waiting()
    assert types(driver.dispatch("j2")) == ["job.ack"]
    driver.take(driver.machine.job_cleaned(driver.now))
    assert len(only(driver.actions, RunJob)) == 1


# A97
def test_of_two_ends_confirmed_at_once_both_are_said_again_when_the_link_breaks():
    driver = waiting()
    cancel = {"messageId": "c", "runId": "r1", "jobId": "j2", "reason": "by me"}
    driver.say("job.cancel", **cancel)
    driver.take(driver.machine.job_cleaned(driver.now))
    driver.tick_until(Ping)
    driver.take(driver.machine.ponged(driver.now))
    driver.take(driver.machine.lost("gone", driver.now))
    driver.tick_until(Dial)
    register, _ = driver.connect()
    assert [job["jobId"] for job in register["inFlightJobs"]] == ["j1", "j2"]


# A95
@pytest.mark.parametrize("job_id", ["j1", "j2"])
def test_a_cancel_of_the_same_job_id_in_another_run_is_for_somebody_else(job_id):
    driver = waiting() if job_id == "j2" else Driver()
    if job_id == "j1":
        driver.connect()
        driver.dispatch()
    cancel = {"messageId": "c", "runId": "other", "jobId": job_id, "reason": "by me"}
    assert driver.say("job.cancel", **cancel) == []
    assert not only(driver.actions, CancelJob)


# A97
def test_a_job_whose_end_is_known_is_not_listed_while_it_is_cleaned_up():
    """Nobody would end it: its worker would keep the slot for it for ever."""
    driver = Driver()
    driver.connect()
    driver.dispatch()
    driver.take(driver.machine.job_finished("success", {}, driver.now))
    driver.tick_until(Ping)
    driver.take(driver.machine.ponged(driver.now))
    driver.now += LINGER_S + 1
    driver.take(driver.machine.lost("gone", driver.now))
    driver.tick_until(Dial)
    register, _ = driver.connect()
    assert "inFlightJobs" not in register
    assert types(driver.dispatch("j2")) == ["job.ack"]
    driver.take(driver.machine.job_cleaned(driver.now))
    assert only(driver.actions, RunJob)[0].dispatch.job_id == "j2"
