"""Every accepted job ends in exactly one terminal report, whatever happens on the way."""

import json

import pytest

from kici.contracts.link.jobs import JobAccepted, JobDeclined, JobDispatched
from kici.contracts.link.lifecycle import (
    DrainCut,
    DrainDone,
    DrainState,
    HandoverReady,
    SnapshotRequest,
)
from kici.contracts.states import JobState
from kici.contracts.wire.agent.jobs import JobDispatch
from kici.pool.actions import PauseAgent, ResumeAgent
from kici.pool.adoption import OUTBOX_WAIT_S
from kici.pool.events import PeerBooted, SendFailed
from tests.support.pool_world import World, key, scaler


def drain(world, stopping=False, on=True):
    world.do(DrainState(rev=1, draining=on, stopping=stopping, reason="test"))


# A28 A29 A43 A53 P37 P38 W101
def test_job_goes_to_an_idle_agent_and_its_states_are_told():
    world = World()
    world.register()
    actions = world.offer()
    kinds = [type(getattr(one, "message", one)) for one in actions]
    assert kinds.index(JobAccepted) < kinds.index(JobDispatch)
    [(connection, dispatch)] = world.dispatches()
    assert (connection, dispatch.run_id, dispatch.job_id) == ("c-a1", "r1", "j1")
    world.run()
    world.status("running")
    world.end()
    assert world.states() == ["running", "success"]
    assert [type(one) for one in world.answers()] == [JobAccepted]
    assert any(isinstance(one, JobDispatched) for one in world.told["peer"])


# P40 W98 S51
def test_job_that_nobody_can_serve_is_refused_with_the_reason():
    world = World(scaler())
    world.offer(labels=("mac",))
    [answer] = world.answers()
    assert isinstance(answer, JobDeclined)
    assert answer.reason == "No matching agent available"
    assert not world.launched
    assert world.told["web"][-1].reason == "No matching agent available"


# P41
@pytest.mark.parametrize(
    ("tried", "reason"),
    [(["worker-1"], "Loop detected"), (["a", "b", "c"], "Max hops exceeded")],
)
def test_looping_job_is_refused(tried, reason):
    world = World()
    world.register()
    world.offer(triedConnections=tried)
    assert world.answers()[0].reason == reason


# P45 A52 S54 S96
@pytest.mark.parametrize(
    "broken",
    [
        {"runsOnPatterns": [{"kind": "regex", "source": "(", "flags": ""}]},
        {"jobConfig": {"resources": {"limits": {"memory": "2gb"}}}},
        {"drop": ("workflowName",)},
        {"jobConfig": [1]},
    ],
)
def test_job_that_cannot_be_read_is_refused_and_leaves_nothing(broken):
    world = World(scaler())
    world.register()
    world.offer(**broken)
    assert isinstance(world.answers()[0], JobDeclined)
    assert world.job() is None
    assert not world.launched


# P42 W116
def test_job_offered_twice_is_accepted_twice_and_runs_once():
    world = World()
    world.register("a1")
    world.register("a2")
    world.offer()
    world.offer()
    world.run()
    world.end()
    world.offer()
    assert [type(one) for one in world.answers()] == [JobAccepted] * 3
    assert len(world.dispatches()) == 1


# W99
def test_queue_is_bounded():
    world = World(scaler(max_agents=1), settings={"queue_limit": 2})
    for job in ("j1", "j2", "j3", "j4"):
        world.offer(job)
    assert [type(one) for one in world.answers()] == [JobAccepted] * 2 + [JobDeclined] * 2
    assert world.answers()[-1].reason == "At capacity"


# P60
def test_queued_job_fails_at_its_deadline():
    world = World(settings={"queue_timeout_s": 30})
    world.register()
    world.offer("j1")
    world.offer("j2")
    world.run()
    world.wait(31)
    assert [one.state for one in world.finished()] == ["failed"]
    assert world.error("j2") == "no agent became available within 30 s"


# A34 A40 A41 S77
def test_jobs_queue_in_order_and_each_freed_slot_takes_one():
    world = World()
    world.register(max_concurrency=2)
    for job in ("j1", "j2", "j3", "j4"):
        world.offer(job)
    assert [one.job_id for _, one in world.dispatches()] == ["j1", "j2"]
    world.run(job="j1")
    world.status("success", job="j1")
    assert [one.job_id for _, one in world.dispatches()] == ["j1", "j2", "j3"]


# A42 P50 W115
def test_two_jobs_of_one_run_end_independently():
    world = World()
    for agent, job in (("a1", "j1"), ("a2", "j2")):
        world.register(agent)
        world.offer(job)
        world.run(agent, job)
    world.end(agent="a2", job="j2", state="failed")
    world.end(agent="a1", job="j1")
    assert {one.key.job_id: one.state for one in world.finished()} == {
        "j1": "success",
        "j2": "failed",
    }


# P49
def test_same_ids_from_two_coordinators_stay_apart():
    world = World()
    world.register("a1")
    world.register("a2")
    world.offer(owner="ws://one")
    world.offer(owner="ws://two")
    world.run("a1")
    world.run("a2")
    world.end(agent="a2", state="failed")
    [finished] = world.finished()
    assert finished.key.owner == "ws://two"
    assert world.job(owner="ws://one").state is JobState.RUNNING


# A35 W120 A108
def test_silent_agent_loses_the_job_and_its_connection():
    world = World()
    world.register("a1")
    world.register("a2")
    world.offer()
    world.wait(10)
    assert world.cancels()[0].reason == "dispatch ack timeout"
    assert (world.closed[0].connection_id, world.closed[0].code) == ("c-a1", 4031)
    assert [connection for connection, _ in world.dispatches()] == ["c-a1", "c-a2"]


# A38 P60
def test_job_fails_after_five_lost_deliveries():
    world = World()
    for number in range(6):
        world.register(f"a{number}")
    world.offer()
    world.wait(100)
    assert len(world.dispatches()) == 5
    assert world.error().startswith("dispatch attempts exhausted")
    assert len(world.finished()) >= 1


# A39
def test_dispatch_to_a_closed_socket_counts_as_not_delivered():
    world = World()
    world.register("a1")
    world.register("a2")
    world.offer()
    world.do(SendFailed("c-a1", world.dispatches()[0][1]))
    assert world.dispatches()[-1][0] == "c-a2"


# A37 W121a
def test_busy_agent_rests_and_quick_rejects_do_not_fail_the_job():
    world = World()
    world.register()
    world.offer()
    for count in range(1, 8):
        assert len(world.dispatches()) == count
        world.reject()
        world.free(active=1)
        assert len(world.dispatches()) == count
        world.wait(0.9)
        assert len(world.dispatches()) == count
        world.wait(min(2.0 ** (count - 1), 30) - 0.9)
    assert not world.finished()


# A37
def test_rejected_job_goes_to_another_agent_at_once():
    world = World()
    world.register("a1")
    world.register("a2")
    world.offer()
    world.reject("a1")
    assert world.dispatches()[-1][0] == "c-a2"


# A56 A61 A81
def test_only_the_assignee_may_report_and_only_once():
    world = World()
    world.register("a1")
    world.register("a2")
    world.offer("j1")
    world.offer("j2")
    world.run("a1", "j1")
    world.run("a2", "j2")
    world.status("failed", agent="a2", job="j1")
    world.log("forged", agent="a2", job="j1")
    assert world.agent("a2").active == 1
    world.end(agent="a1", job="j1")
    world.end(agent="a1", job="j1")
    assert [one.state for one in world.finished()] == ["success"]
    assert "forged" not in json.dumps(world.frames())


# A57 P52
def test_informational_and_unknown_states_are_mapped_or_dropped():
    world = World()
    world.register()
    world.offer()
    world.run()
    for state in ("pending", "queued", "recovering", "resting"):
        world.status(state)
    world.step("resting")
    world.step("errored")
    world.end(state="timed_out_stale")
    assert world.states() == ["running", "failed"]
    assert [one["state"] for one in world.frames() if one["kind"] == "step"] == ["failed"]


# P51 A58
def test_step_updates_carry_what_the_agent_put_beside_data():
    world = World()
    world.register()
    world.offer()
    world.run()
    world.step(
        "failed",
        data={"exitCode": 1},
        secrets_accessed=("NPM",),
        concurrency_kind="sequential",
        group_id="g0",
        log_bytes_streamed=9,
    )
    assert world.frames()[-1]["data"] == {
        "exitCode": 1,
        "secretsAccessed": ["NPM"],
        "concurrencyKind": "sequential",
        "groupId": "g0",
        "logBytesStreamed": 9,
    }


# A60
def test_terminal_report_waits_for_late_logs():
    world = World()
    world.register()
    world.offer()
    world.run()
    world.status("success")
    assert not world.finished()
    world.wait(0.9)
    world.log("late")
    world.wait(0.9)
    assert not world.finished()
    world.wait(0.2)
    kinds = [frame["type"] for frame in world.frames()]
    assert kinds == ["job.progress", "peer.log.chunk", "job.progress"]
    world.log("too late")
    assert "too late" not in json.dumps(world.frames())
    assert world.notes[-1].message == "Log lines after the terminal report dropped"


# A60
def test_terminal_report_waits_no_longer_than_thirty_seconds():
    world = World()
    world.register()
    world.offer()
    world.run()
    world.status("success")
    for _ in range(40):
        world.wait(0.9)
        world.log("on and on")
    assert len(world.finished()) >= 1
    assert world.frames()[-1]["state"] == "success"


# A72 P61 W111 W113
def test_cancel_of_a_running_job_reaches_the_agent_once():
    world = World()
    world.register()
    world.offer()
    world.run()
    world.cancel(force=True)
    world.cancel()
    [cancel] = world.cancels()
    assert (cancel.reason, cancel.force) == ("by alice", True)
    world.status("running")
    world.end("cancelled")
    assert world.states() == ["running", "cancelled"]


# A73 P61 W112
def test_cancel_of_a_queued_job_removes_it():
    world = World()
    world.register()
    world.offer("j1")
    world.offer("j2")
    world.cancel("j2")
    world.run()
    world.end()
    assert [one.state for one in world.finished("j2")] == ["cancelled"]
    assert len(world.dispatches()) == 1


def test_cancel_without_a_reason_still_ends_with_one():
    world = World()
    world.register()
    world.offer("j1")
    world.offer("j2")
    world.cancel("j2", reason="")
    world.run()
    assert world.error("j2") == "cancelled"


# W113
def test_cancel_without_job_id_means_the_whole_run_of_that_coordinator():
    world = World(scaler())
    world.offer("j1")
    world.offer("j2")
    world.offer("j1", owner="ws://other")
    world.offer("j3", run="r2")
    world.cancel(None)
    assert sorted(one.key.job_id for one in world.finished()) == ["j1", "j2"]
    assert not [one for one in world.finished() if one.key.owner == "ws://other"]


# A74
def test_cancel_while_the_agent_is_away_takes_effect_when_it_returns():
    world = World()
    world.register()
    world.offer()
    world.run()
    world.lose()
    world.cancel()
    world.register(jobs=[("r1", "j1")])
    assert world.cancels()[-1].reason == "by alice"
    assert world.states() == ["running"]  # P74: no running after a cancel
    world.end("cancelled")
    assert world.states() == ["running", "cancelled"]


# A74
def test_cancel_while_the_agent_stays_away_ends_cancelled():
    world = World()
    world.register()
    world.offer()
    world.run()
    world.lose()
    world.cancel()
    world.wait(121)
    assert [one.state for one in world.finished()][0] == "cancelled"


# A75
def test_cancel_that_is_not_obeyed_ends_by_our_hand():
    world = World()
    world.register()
    world.offer()
    world.run()
    world.cancel()
    world.wait(61)
    assert world.finished()[0].state == "cancelled"
    assert world.closed[-1].code == 4031
    assert world.agent() is None


# A76
def test_static_agent_that_returns_with_its_job_goes_on():
    world = World()
    world.register()
    world.offer()
    world.run()
    world.lose()
    world.wait(119)
    world.register(jobs=[("r1", "j1")], connection="c2")
    assert world.states() == ["running", "running"]
    world.say("a1", None, connection="c2")
    world.wait(200)
    assert not world.finished()


# A76 P60 W114
def test_static_agent_that_stays_away_fails_its_job():
    world = World()
    world.register()
    world.offer()
    world.run()
    world.lose()
    world.wait(121)
    assert world.error() == "agent lost while running the job"
    assert world.agent() is None


# A77 A106
def test_agent_that_returns_without_its_job_fails_it_at_once():
    world = World()
    world.register()
    world.offer()
    world.run()
    world.lose()
    world.register()
    assert world.error() == "agent lost while running the job"


# A79 A80
def test_unknown_job_in_flight_takes_the_slot_and_is_told_to_stop():
    world = World()
    world.register(jobs=[("r9", "j9")])
    assert world.cancels()[0].reason == "unknown job"
    world.offer()
    assert not world.dispatches()
    world.status("cancelled", job="j9", run="r9")
    assert len(world.dispatches()) == 1


# A79 A90
def test_an_end_that_is_said_again_before_it_is_stored_frees_the_slot():
    world = World()
    world.register()
    world.offer()
    world.run()
    world.end()
    world.lose()
    world.register(jobs=[("r1", "j1")])
    world.status("success")
    assert world.states().count("success") == 1
    world.store()
    world.offer("j2")
    assert len(world.dispatches()) == 2


# A90
@pytest.mark.parametrize("lost", [False, True], ids=["idle for long", "its link breaks"])
def test_an_agent_whose_end_is_not_stored_is_not_stopped(lost):
    """It and our memory are the only ones who know the end: both may not go."""
    world = World(scaler())
    world.offer()
    agent = world.arrive()
    world.run(agent)
    world.end(agent=agent)
    if lost:
        world.lose(agent)
    world.wait(60)
    assert world.reaped == []
    world.store()
    world.wait(1)
    assert [one.agent_id for one in world.reaped] == [agent]


# A79 A80
def test_job_in_flight_is_not_stopped_before_the_open_records_have_come():
    world = World(outbox=False)
    world.register(jobs=[("r1", "j1")])
    assert not world.cancels()
    world.outbox(key())
    assert world.states() == ["running"]
    world.end()
    assert [one.state for one in world.finished()] == ["success"]


def test_open_records_that_never_come_do_not_protect_an_unknown_job_for_ever():
    world = World(outbox=False)
    world.register(jobs=[("r1", "j1")])
    world.wait(OUTBOX_WAIT_S - 1)
    assert not world.cancels()
    world.wait(2)
    assert world.cancels()[0].reason == "unknown job"


# A79, A90
def test_an_agent_with_an_unknown_job_is_not_read_before_the_open_records_come():
    world = World(outbox=False)
    world.register(jobs=[("r1", "j1")])
    reading = [one for one in world.actions if isinstance(one, PauseAgent | ResumeAgent)]
    assert [type(one) for one in reading] == [PauseAgent]
    world.outbox(key())
    reading = [one for one in world.actions if isinstance(one, PauseAgent | ResumeAgent)]
    assert [type(one) for one in reading] == [PauseAgent, ResumeAgent]


# P60
def test_open_record_that_no_agent_claims_fails_after_the_grace_time():
    world = World(outbox=False)
    world.outbox(key())
    world.wait(119)
    assert not world.finished()
    world.wait(2)
    assert world.error() == "worker restarted"


def test_job_offered_again_after_a_restart_is_taken_even_while_draining():
    world = World(scaler(), outbox=False)
    world.outbox(key())
    drain(world)
    world.offer(again=True)
    assert isinstance(world.answers()[0], JobAccepted)
    world.arrive()
    assert len(world.dispatches()) == 1


def test_job_offered_again_that_nobody_can_serve_any_more_is_reported_failed():
    world = World(outbox=False, outsiders=False)
    world.outbox(key())
    world.offer(again=True)
    assert isinstance(world.answers()[0], JobAccepted)
    assert world.error() == "No matching agent available"


def test_record_that_was_stored_is_not_brought_back_by_an_old_outbox_state():
    world = World()
    world.register()
    world.offer()
    world.run()
    world.end()
    world.store()
    world.outbox(key())
    world.wait(300)
    assert [one.state for one in world.finished()] == ["success"]


# P54 A54
def test_terminal_report_is_told_again_until_it_is_stored():
    world = World()
    world.register()
    world.offer()
    world.run()
    world.end()
    assert len(world.finished()) == 1
    world.do(PeerBooted())
    assert len(world.finished()) == 2
    world.do(SnapshotRequest(reader="peer"))
    assert len(world.finished()) == 3
    world.wait(31)
    assert len(world.finished()) == 4
    assert len({one.frame for one in world.finished()}) == 1
    world.store()
    world.wait(100)
    assert len(world.finished()) == 4
    assert world.job() is None


# P39 A82 W97 W135
def test_draining_worker_refuses_and_says_when_nothing_is_held():
    world = World(scaler(max_agents=1))
    world.offer("j1")
    world.offer("j2")
    drain(world)
    world.offer("j3")
    assert world.answers()[-1].reason == "Worker is draining"
    for job in ("j1", "j2"):
        agent = world.arrive()
        world.run(agent, job)
        world.end(agent=agent, job=job)
        world.backend(agent, "exited")
        world.lose(agent)
        assert not [one for one in world.told["supervisor"] if isinstance(one, DrainDone)]
        world.store("j1")
    world.store("j2")
    assert len([one for one in world.told["supervisor"] if isinstance(one, DrainDone)]) == 1


# A82 A83 S82
def test_cut_drain_cancels_and_reports_everything():
    world = World()
    world.register("a1")
    world.register("a2")
    for job in ("j1", "j2", "j3"):
        world.offer(job)
    world.run("a1", "j1")
    world.run("a2", "j2")
    world.lose("a2")
    drain(world, stopping=True)
    world.do(DrainCut(reason="worker stops"))
    assert {one.key.job_id: one.state for one in world.finished()} == {
        "j2": "cancelled",
        "j3": "cancelled",
    }
    world.wait(20)
    assert world.finished("j1")[0].state == "cancelled"


def test_hand_over_waits_for_accepted_jobs_until_an_agent_has_them():
    world = World(scaler(max_agents=1))
    world.offer("j1")
    world.offer("j2")
    world.do(DrainState(rev=2, draining=True, stopping=False, reason="restart", handover=True))
    world.offer("j3")
    assert world.answers()[-1].reason == "Worker is draining"

    def ready():
        return [one for one in world.told["supervisor"] if isinstance(one, HandoverReady)]

    agent = world.arrive()
    world.run(agent, "j1")
    assert not ready()  # j2 is in our memory alone
    world.end(agent=agent, job="j1")
    world.backend(agent, "exited")
    world.lose(agent)
    agent = world.arrive()
    world.run(agent, "j2")
    assert len(ready()) == 1
    world.end(agent=agent, job="j2")
    assert len(ready()) == 1


def test_idle_worker_is_drained_at_once():
    world = World()
    drain(world)
    assert [type(one) for one in world.told["supervisor"]] == [DrainDone]


# W123
def test_a_new_process_is_drained_only_when_it_has_heard_what_is_held():
    world = World(outbox=False)
    drain(world)
    assert world.told["supervisor"] == []
    world.outbox()
    assert [type(one) for one in world.told["supervisor"]] == [DrainDone]


def test_drain_done_names_the_drain_that_it_answers_and_the_wait_is_logged_each_second():
    world = World()
    world.register()
    world.offer()
    world.run()
    state = DrainState(rev=41, draining=True, stopping=True, reason="SIGTERM")
    world.do(state)
    world.wait(2.5)
    said = [one.message for one in world.notes if "in flight" in one.message]
    assert said == ["Draining: 1 job(s) in flight"] * 2
    world.end()
    world.store()
    assert world.told["supervisor"] == [DrainDone(rev=41)]


# A17
def test_late_close_of_a_superseded_connection_changes_nothing():
    world = World()
    world.register(connection="old")
    world.register(connection="new")
    world.lose(connection="old")
    world.offer()
    assert world.dispatches()[0][0] == "new"


def test_waiting_job_says_queued_before_the_coordinators_spawn_window_ends():
    world = World()
    world.register()
    world.offer("j1")
    world.offer("j2")
    world.run()
    world.wait(89)
    assert world.states("j2") == ["queued"]


# A44 P48
def test_secrets_leave_the_core_in_the_dispatch_only():
    world = World()
    world.register()
    world.offer()
    world.run()
    world.end()
    rest = [
        one for one in world.actions if not isinstance(getattr(one, "message", None), JobDispatch)
    ]
    assert "s3cr3t" not in repr(rest)
    assert world.dispatches()[0][1].secrets == {"TOKEN": "s3cr3t"}


# P74
def test_keep_alive_says_running_only_while_the_agent_is_there():
    world = World(settings={"job_keepalive": True})
    world.register()
    world.offer()
    world.run()
    world.wait(200)
    assert world.states() == ["running"] * 3
    world.lose()
    world.wait(100)
    assert world.states() == ["running"] * 3
    world.register(jobs=[("r1", "j1")])
    world.cancel()
    world.wait(50)
    world.end("cancelled")
    world.store()
    world.wait(100)
    assert world.states()[-2:] == ["running", "cancelled"]


# A74, C52
def test_cancel_that_comes_before_the_open_records_takes_effect_with_them():
    world = World(outbox=False)
    world.cancel()
    world.cancel(job="j9")
    world.outbox(key())
    assert world.states("j1") == []
    world.register(jobs=[("r1", "j1")])
    assert [one.job_id for one in world.cancels()] == ["j1"]
    world.end("cancelled")
    assert world.states("j1")[-1] == "cancelled"
