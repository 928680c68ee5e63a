"""The agent's machine, told the time and the frames."""

import base64
import json

import pytest

from kici.protocol.agent_client import AgentClient
from kici.protocol.agent_outbox import MAX_LOG_BYTES
from kici.protocol.agent_speech import (
    ABANDON_S,
    EXIT_ABANDONED,
    EXIT_OK,
    EXIT_REFUSED,
    EXIT_STOPPED,
    AgentIdentity,
    CancelJob,
    Dial,
    Exit,
    GiveLogs,
    Ping,
    RunJob,
)
from kici.protocol.agent_timing import backoff_s
from kici.protocol.machine import Close, Send


class Driver:
    def __init__(self, **identity):
        ids = iter(range(10**9))
        fields = {"agent_id": "a1", "labels": ("linux",), "token": "kat_1", **identity}
        self.machine = AgentClient(
            AgentIdentity(**fields),
            wall_ms=lambda: 1000,
            new_id=lambda: f"m{next(ids)}",
            random=lambda: 0.0,
        )
        self.now = 100.0
        self.actions = self.machine.start(self.now)

    def say(self, type_, **fields):
        text = json.dumps({"type": type_, **fields}).encode()
        return self.take(self.machine.receive(text, self.now))

    def take(self, actions):
        self.actions = actions
        return frames(actions)

    def connect(self, **ack):
        self.take(self.machine.opened(self.now))
        if self.machine.identity.token:
            self.say("auth.success", connectionId="c")
        register = frames(self.actions)[0]
        sent = self.say("register.ack", agentId="a1", labels=[], **ack)
        return register, sent

    def dispatch(self, job_id="j1", **more):
        fields = {"messageId": "x", "runId": "r1", "jobId": job_id, "repoUrl": "", "ref": ""}
        fields |= {"sha": "", "lockFileUrl": "", "jobConfig": {}, "timestamp": 1}
        return self.say("job.dispatch", **{**fields, **more})

    def tick_until(self, kind, limit_s=1000.0):
        """Let time pass until an action of ``kind`` comes; returns (seconds, action)."""
        start = self.now
        while self.machine.deadline is not None and self.now - start <= limit_s:
            self.now = max(self.now, self.machine.deadline)
            self.actions = self.machine.tick(self.now)
            for action in self.actions:
                if isinstance(action, kind):
                    return self.now - start, action
        raise AssertionError(f"no {kind.__name__} within {limit_s} s")


def frames(actions):
    return [json.loads(action.text) for action in actions if isinstance(action, Send)]


def types(sent):
    return [frame["type"] for frame in sent]


def only(actions, kind):
    return [action for action in actions if isinstance(action, kind)]


# A86
def test_a_token_goes_first_and_registration_waits_for_its_success():
    driver = Driver()
    assert only(driver.actions, Dial)
    assert driver.take(driver.machine.opened(driver.now)) == [
        {"type": "auth.request", "token": "kat_1", "protocolVersion": 1}
    ]
    assert types(driver.say("auth.success", connectionId="c")) == ["agent.register"]


# A86
def test_without_a_token_registration_is_first():
    driver = Driver(token=None)
    assert types(driver.take(driver.machine.opened(driver.now))) == ["agent.register"]


# A88
def test_a_heartbeat_goes_out_every_thirty_seconds():
    driver = Driver()
    driver.connect()
    seconds, _ = driver.tick_until(Send)
    assert seconds == 30
    assert types(frames(driver.actions)) == ["heartbeat"]


# A89
def test_a_dispatch_is_acknowledged_before_it_runs():
    driver = Driver()
    driver.connect()
    assert types(driver.dispatch()) == ["job.ack", "job.status"]
    kinds = [type(action) for action in driver.actions]
    assert kinds == [Send, Send, RunJob]


# A91
def test_a_second_dispatch_is_refused_busy_and_a_draining_agent_refuses_all():
    driver = Driver()
    driver.connect()
    driver.dispatch()
    reject, status = driver.dispatch("j2")
    assert (reject["type"], reject["reason"], reject["jobId"]) == ("job.reject", "busy", "j2")
    assert (status["type"], status["activeJobs"]) == ("agent.status", 1)
    driver.take(driver.machine.drain(driver.now))
    assert driver.dispatch("j3")[0]["reason"] == "draining"


def test_a_dispatch_during_the_clean_up_waits_for_it():
    driver = Driver()
    driver.connect()
    driver.dispatch()
    driver.take(driver.machine.job_finished("success", {}, driver.now))
    assert types(driver.dispatch("j2")) == ["job.ack"]
    sent = driver.take(driver.machine.job_cleaned(driver.now))
    assert types(sent) == ["agent.status", "job.status"]
    assert only(driver.actions, RunJob)[0].dispatch.job_id == "j2"


# A90 A97
def test_a_terminal_status_is_repeated_until_a_pong_proves_it_was_read():
    driver = Driver()
    driver.connect()
    driver.dispatch()
    driver.tick_until(Ping)
    driver.take(driver.machine.ponged(driver.now))
    driver.take(driver.machine.job_finished("success", {"durationMs": 1}, driver.now))
    driver.take(driver.machine.job_cleaned(driver.now))
    driver.take(driver.machine.lost("gone", driver.now))
    driver.tick_until(Dial)
    register, sent = driver.connect()
    assert register["inFlightJobs"] == [{"jobId": "j1", "runId": "r1"}]
    assert types(sent) == ["agent.log", "job.status", "config.ack"]
    driver.tick_until(Ping)
    driver.take(driver.machine.ponged(driver.now))
    driver.now += 10
    driver.take(driver.machine.lost("gone", driver.now))
    driver.tick_until(Dial)
    register, sent = driver.connect()
    assert types(sent) == ["config.ack"]


# A97
@pytest.mark.parametrize("away_s", [0, 600])
def test_an_end_that_was_read_just_before_the_worker_died_is_said_again_whenever_it_is_back(away_s):
    driver = Driver(scaler_managed=True)
    driver.connect()
    driver.dispatch()
    driver.take(driver.machine.job_finished("success", {}, driver.now))
    driver.take(driver.machine.job_cleaned(driver.now))
    driver.tick_until(Ping)
    driver.take(driver.machine.ponged(driver.now))
    driver.now += 1
    driver.take(driver.machine.lost("gone", driver.now))
    driver.now += away_s
    driver.tick_until(Dial)
    register, sent = driver.connect()
    assert register["inFlightJobs"] == [{"jobId": "j1", "runId": "r1"}]
    assert "job.status" in types(sent)
    driver.tick_until(Ping)
    driver.take(driver.machine.ponged(driver.now))
    assert not driver.machine.outbox.jobs_ended()


def test_a_pong_confirms_only_what_was_sent_before_its_ping():
    driver = Driver()
    driver.connect()
    driver.dispatch()
    driver.tick_until(Ping)
    driver.take(driver.machine.job_finished("success", {}, driver.now))
    driver.take(driver.machine.ponged(driver.now))
    assert driver.machine.outbox.jobs_ended() == [("r1", "j1")]


def test_an_end_is_confirmed_at_once_although_a_ping_was_due_later():
    driver = Driver()
    driver.connect()
    driver.dispatch()
    driver.take(driver.machine.job_finished("success", {}, driver.now))
    driver.take(driver.machine.tick(driver.now))
    assert len(only(driver.actions, Ping)) == 1


# A99
def test_a_signal_has_what_was_said_confirmed_at_once_and_leaves_with_the_pong():
    driver = Driver()
    driver.connect()
    driver.dispatch()
    driver.tick_until(Ping)
    driver.take(driver.machine.job_finished("success", {}, driver.now))
    driver.take(driver.machine.job_cleaned(driver.now))
    driver.take(driver.machine.stop(driver.now))
    driver.take(driver.machine.ponged(driver.now))  # to the ping before the end
    assert not only(driver.actions, Exit)
    driver.take(driver.machine.tick(driver.now))
    assert len(only(driver.actions, Ping)) == 1
    driver.take(driver.machine.ponged(driver.now))
    assert only(driver.actions, Exit)[0].code == EXIT_OK


def test_a_dispatch_with_half_a_character_is_read():
    driver = Driver()
    driver.connect()
    fields = {"messageId": "x", "runId": "r1", "jobId": "j1", "repoUrl": "", "ref": "?cut"}
    fields |= {"sha": "", "lockFileUrl": "", "jobConfig": {}, "timestamp": 1}
    text = json.dumps({"type": "job.dispatch", **fields}).replace("?cut", "\\ud83d")
    driver.take(driver.machine.receive(text, driver.now))
    assert only(driver.actions, RunJob)[0].dispatch.ref == "\ufffd"


# A90
def test_a_job_has_one_terminal_status():
    driver = Driver()
    driver.connect()
    driver.dispatch()
    assert len(driver.take(driver.machine.job_finished("failed", {}, driver.now))) == 1
    assert driver.take(driver.machine.job_finished("success", {}, driver.now)) == []


# A105
def test_logs_said_while_away_come_in_order_behind_the_marker_before_the_end():
    driver = Driver()
    driver.connect()
    driver.dispatch()
    driver.tick_until(Ping)
    driver.take(driver.machine.ponged(driver.now))
    driver.take(driver.machine.lost("gone", driver.now))
    for word in ("one", "two"):
        assert driver.take(driver.machine.job_log(0, (word,), "stdout", 1, driver.now)) == []
    driver.machine.job_finished("success", {}, driver.now)
    driver.tick_until(Dial)
    _, sent = driver.connect()
    assert types(sent) == ["agent.log", "log.chunk", "log.chunk", "job.status", "config.ack"]
    assert "Replaying 3 buffered events and 2 buffered log lines." in sent[0]["lines"][0]
    assert [frame["lines"] for frame in sent[1:3]] == [["one"], ["two"]]


def test_logs_beyond_the_bound_are_dropped_oldest_first_and_counted():
    driver = Driver()
    driver.connect()
    driver.dispatch()
    driver.take(driver.machine.lost("gone", driver.now))
    line = "x" * 100_000
    n_sent = MAX_LOG_BYTES // 100_000 + 10
    for number in range(n_sent):
        driver.machine.job_log(0, (f"{number} {line}",), "stdout", 1, driver.now)
    driver.tick_until(Dial)
    _, sent = driver.connect()
    kept = [f for f in sent if f["type"] == "log.chunk"]
    n_dropped = int(kept[0]["lines"][0].split()[0].lstrip("["))
    assert "lines dropped due to backpressure" in kept[0]["lines"][0]
    assert n_dropped + len(kept) - 1 == n_sent
    assert kept[1]["lines"][0].startswith(f"{n_dropped} ")
    # The state that was said before the logs is not given up.
    assert "job.status" in types(sent)


# A95
def test_a_second_cancel_or_force_skips_the_grace_time():
    driver = Driver()
    driver.connect()
    driver.dispatch()
    cancel = {"messageId": "c", "runId": "r1", "jobId": "j1", "reason": "stop it"}
    driver.say("job.cancel", **cancel)
    assert only(driver.actions, CancelJob) == [CancelJob("stop it", False)]
    driver.say("job.cancel", **cancel)
    assert only(driver.actions, CancelJob) == [CancelJob("stop it", True)]
    driver.say("job.cancel", **{**cancel, "jobId": "other"})
    assert only(driver.actions, CancelJob) == []


@pytest.mark.parametrize("code", [1000, 1001, 1006, 1009, 4001, 4002, 4003, 4004, 4005, 4031])
# A96
def test_every_close_but_4010_leads_to_another_attempt(code):
    driver = Driver(scaler_managed=True)
    driver.connect()
    driver.take(driver.machine.lost("why", driver.now, code))
    seconds, _ = driver.tick_until(Dial)
    assert 1 <= seconds <= 1.5


# A96
def test_4010_ends_the_agent_with_its_own_exit_code():
    driver = Driver(scaler_managed=True)
    driver.connect()
    driver.take(driver.machine.lost("scope", driver.now, 4010))
    assert only(driver.actions, Exit)[0].code == EXIT_REFUSED
    assert driver.machine.deadline is None


# A96
def test_auth_failure_is_for_ever_and_ends_a_running_job_first():
    driver = Driver()
    driver.connect()
    driver.dispatch()
    driver.say("auth.failure", reason="Token revoked")
    assert only(driver.actions, CancelJob)[0].force
    assert not only(driver.actions, Exit)
    driver.machine.job_finished("failed", {}, driver.now)
    driver.take(driver.machine.job_cleaned(driver.now))
    assert only(driver.actions, Exit)[0].code == EXIT_REFUSED


def test_back_off_grows_to_its_ceiling_and_only_an_ack_resets_it():
    assert [round(backoff_s(n, 0.0), 2) for n in (0, 1, 2)] == [1.0, 1.5, 2.25]
    assert backoff_s(0, 0.5) == 1.25
    assert backoff_s(10**6, 0.99) == 60
    driver = Driver()
    waits = []
    for _ in range(3):
        driver.take(driver.machine.opened(driver.now))
        driver.take(driver.machine.lost("no", driver.now))
        waits.append(round(driver.tick_until(Dial)[0], 2))
    assert waits == [1.0, 1.5, 2.25]
    driver.connect()
    driver.take(driver.machine.lost("no", driver.now))
    assert driver.tick_until(Dial)[0] == 1.0


# A98
def test_unknown_types_keys_and_garbage_are_ignored():
    driver = Driver()
    driver.connect()
    assert driver.say("future.message", x=1) == []
    for text in (b"{", b"[]", b"\xff", b'{"type":3}', b"null"):
        assert driver.take(driver.machine.receive(text, driver.now)) == []
    assert types(driver.dispatch(unknownKey={"a": 1})) == ["job.ack", "job.status"]


# A102 A108
def test_a_dispatch_that_cannot_be_read_is_rejected_by_name():
    driver = Driver()
    driver.connect()
    sent = driver.say("job.dispatch", runId="r9", jobId="j9")
    assert (sent[0]["type"], sent[0]["jobId"]) == ("job.reject", "j9")
    assert sent[0]["reason"].startswith("invalid dispatch: ")


# A100
def test_a_dead_server_is_noticed_within_ninety_seconds():
    driver = Driver()
    driver.connect()
    driver.tick_until(Ping)
    seconds, close = driver.tick_until(Close)
    assert driver.now - 100 <= 90
    assert seconds > 0
    assert driver.tick_until(Dial)


def test_a_server_that_never_answers_the_handshake_is_left():
    driver = Driver()
    driver.take(driver.machine.opened(driver.now))
    seconds, close = driver.tick_until(Close)
    assert (seconds, close.code) == (20, 4002)
    assert driver.tick_until(Dial)


@pytest.mark.parametrize(("ack", "seconds"), [({}, 5), ({"pendingDispatch": True}, 60)])
def test_a_managed_agent_leaves_when_idle(ack, seconds):
    driver = Driver(scaler_managed=True)
    driver.connect(**ack)
    passed, leaving = driver.tick_until(Exit)
    assert (passed, leaving.code) == (seconds, EXIT_OK)
    assert only(driver.actions, Close)[0].reason == "Agent disconnect"


def test_a_warm_or_a_stand_alone_agent_stays():
    for driver, ack in ((Driver(scaler_managed=True), {"warmPool": True}), (Driver(), {})):
        driver.connect(**ack)
        with pytest.raises(AssertionError):
            driver.tick_until(Exit, 55)


def test_a_managed_agent_waits_for_its_unconfirmed_end_before_it_leaves():
    driver = Driver(scaler_managed=True)
    driver.connect()
    driver.dispatch()
    driver.machine.job_finished("success", {}, driver.now)
    driver.machine.job_cleaned(driver.now)
    with pytest.raises(AssertionError):
        driver.tick_until(Exit, 20)
    driver.take(driver.machine.ponged(driver.now))
    assert only(driver.actions, Exit)[0].code == EXIT_OK


# A90
def test_an_idle_agent_takes_its_unconfirmed_end_to_the_next_worker():
    """Its worker died before the end was stored: it must not leave because it was idle."""
    driver = Driver(scaler_managed=True)
    driver.connect()
    driver.dispatch()
    driver.machine.job_finished("success", {}, driver.now)
    driver.machine.job_cleaned(driver.now)
    with pytest.raises(AssertionError):
        driver.tick_until(Exit, 20)
    driver.take(driver.machine.lost("gone", driver.now))
    seconds, leaving = driver.tick_until(Exit, ABANDON_S + 1)
    assert seconds == ABANDON_S
    assert leaving.code == EXIT_ABANDONED


def test_a_cancel_that_is_told_again_after_a_reconnect_is_no_second_wish():
    driver = Driver()
    driver.connect()
    driver.dispatch()
    cancel = {"messageId": "c", "runId": "r1", "jobId": "j1", "reason": "x"}
    driver.say("job.cancel", **cancel)
    assert [one.force for one in only(driver.actions, CancelJob)] == [False]
    driver.take(driver.machine.lost("gone", driver.now))
    driver.tick_until(Dial)
    driver.connect()
    driver.say("job.cancel", **cancel)
    assert [one.force for one in only(driver.actions, CancelJob)] == [False]
    driver.say("job.cancel", **cancel)
    assert [one.force for one in only(driver.actions, CancelJob)] == [True]


# A99
def test_sigterm_ends_the_job_reports_it_and_leaves_with_one():
    driver = Driver()
    driver.connect()
    driver.dispatch()
    driver.take(driver.machine.stop(driver.now))
    assert only(driver.actions, CancelJob) == [
        CancelJob("agent was stopped", force=False, on_request=False)
    ]
    driver.machine.job_finished("failed", {}, driver.now)
    driver.take(driver.machine.job_cleaned(driver.now))
    assert not only(driver.actions, Exit)
    driver.tick_until(Ping)
    driver.take(driver.machine.ponged(driver.now))
    assert only(driver.actions, Exit)[0].code == EXIT_STOPPED


def test_sigterm_without_a_job_leaves_at_once():
    driver = Driver()
    driver.connect()
    driver.take(driver.machine.stop(driver.now))
    assert only(driver.actions, Exit)[0].code == EXIT_OK


def test_sigterm_without_a_worker_does_not_wait_for_ever():
    driver = Driver()
    driver.connect()
    driver.dispatch()
    driver.take(driver.machine.lost("gone", driver.now))
    driver.take(driver.machine.stop(driver.now))
    driver.machine.job_finished("failed", {}, driver.now)
    driver.take(driver.machine.job_cleaned(driver.now))
    assert driver.tick_until(Exit, 10)[1].code == EXIT_STOPPED


def test_a_managed_agent_gives_up_on_a_worker_that_stays_away():
    driver = Driver(scaler_managed=True)
    driver.connect()
    driver.take(driver.machine.lost("gone", driver.now))
    seconds, leaving = driver.tick_until(Exit, 2000)
    assert leaving.code == EXIT_ABANDONED
    assert 800 < seconds < 1000


# A90
def test_the_end_tells_how_many_lines_each_step_wrote():
    driver = Driver()
    driver.connect()
    driver.dispatch()
    driver.take(driver.machine.job_log(0, ("a", "b"), "stdout", 1, driver.now))
    driver.take(driver.machine.job_log(2, ("c",), "stdout", 1, driver.now))
    driver.take(driver.machine.job_log(0, ("d",), "stdout", 1, driver.now))
    [said] = driver.take(driver.machine.job_finished("success", {"durationMs": 1}, driver.now))
    assert said["data"] == {"durationMs": 1, "logLines": {"0": 3, "2": 1}}


# A84
@pytest.mark.parametrize(("size", "sizes"), [(0, [0]), (87_040, [87_040]), (87_041, [87_040, 1])])
def test_a_bundle_goes_out_in_ordered_chunks(size, sizes):
    driver = Driver()
    driver.connect()
    driver.say("fleet.logs.request", requestId="q", logWindowHours=2, maxBytes=9)
    assert driver.actions == [GiveLogs("q", 2.0, 9)]
    chunks = driver.take(driver.machine.logs_made("q", b"x" * size))
    assert [len(base64.b64decode(chunk["dataB64"])) for chunk in chunks] == sizes
    assert [chunk["seq"] for chunk in chunks] == list(range(len(sizes)))
    assert [chunk["isLast"] for chunk in chunks] == [False] * (len(sizes) - 1) + [True]
    driver.machine.lost("gone", driver.now)
    assert driver.machine.logs_made("q", b"x") == []
