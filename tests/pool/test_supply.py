"""Agents are started when they are needed, never more than allowed, and used once."""

import msgspec
import pytest

from kici.config.model import ResourceCap, Resources, ResourceSpec, WarmPool
from kici.contracts.link.jobs import JobAccepted, JobDeclined
from kici.contracts.link.views import PoolCapacity
from kici.contracts.states import AgentState, JobState
from kici.errors import RemoteError
from kici.pool.events import AgentsFound, AgentsSought, HealthChanged, LedgerRefused, ScalersChanged
from kici.pool.scalers.base import FoundAgent
from kici.pool.seam import TokenGrant
from tests.support.pool_world import World, config, key, label_set, scaler

AGENT = ("linux", "kici:agent:fake")


# W96 S64 S68 S69 A16 S95
def test_job_starts_an_agent_that_gets_it_and_is_used_once():
    world = World(scaler())
    world.offer()
    [launch] = world.launched
    assert launch.agent_id.startswith("scaler-fake-")
    assert world.job().state is JobState.STARTING
    world.backend(launch.agent_id, "started")
    ack = world.register(launch.agent_id, AGENT)
    assert (ack.scaler_managed, ack.pending_dispatch, ack.warm_pool) == (True, True, None)
    world.run(launch.agent_id)
    world.offer("j2")
    world.end(agent=launch.agent_id)
    assert [connection for connection, _ in world.dispatches()] == [f"c-{launch.agent_id}"]
    # Until the end is stored, the agent is the only other one who knows it.
    assert world.reaped == []
    world.store()
    assert [one.agent_id for one in world.reaped] == [launch.agent_id]
    assert len(world.launched) == 2
    events = [one["eventType"] for one in world.frames() if one["type"] == "scaler.event"]
    assert events[:2] == ["scaler.ready", "agent.connecting"]


# S69
def test_launched_agent_takes_its_own_job_first():
    world = World(scaler(max_agents=1))
    world.offer("j1")
    world.offer("j2")
    world.arrive()
    assert [one.job_id for _, one in world.dispatches()] == ["j1"]


def test_job_that_waits_for_its_agent_takes_another_that_is_free_first():
    world = World(scaler(max_agents=1))
    world.offer("j1")
    world.offer("j2")
    world.register("a1")
    assert [(where, one.job_id) for where, one in world.dispatches()] == [("c-a1", "j1")]
    agent = world.arrive()
    assert world.dispatches()[-1][0] == f"c-{agent}"
    assert world.dispatches()[-1][1].job_id == "j2"


# S52 S53 P37
def test_caps_are_never_exceeded():
    world = World(scaler("s1", max_agents=3), scaler("s2", label_set("mac")), global_max_agents=4)
    for number in range(6):
        world.offer(f"j{number}")
        world.offer(f"m{number}", labels=("mac",))
    assert len(world.launched) == 4
    assert sum(one.scaler == "s1" for one in world.launched) <= 3
    assert all(isinstance(one, JobAccepted) for one in world.answers())


# S49
def test_full_best_match_spills_over_where_that_is_allowed():
    world = World(
        scaler("big", label_set("linux", "gpu"), max_agents=1),
        scaler("small", max_agents=1),
        settings={"spill_over": True},
    )
    for name in ("j1", "j2", "j3"):
        world.offer(name)
    assert [one.scaler for one in world.launched] == ["small", "big"]
    assert world.job("j3").state is JobState.QUEUED
    agent = world.arrive(0)
    world.run(agent, "j1")
    world.end(agent=agent, job="j1")
    world.store("j1")
    world.backend(agent, "exited")
    world.lose(agent)
    assert [one.scaler for one in world.launched] == ["small", "big", "small"]


# S49
def test_spilling_over_leaves_a_set_whose_engine_is_ill():
    world = World(
        scaler("big", label_set("linux", "gpu")), scaler("small"), settings={"spill_over": True}
    )
    world.do(HealthChanged("small", "no engine"))
    world.offer()
    assert isinstance(world.answers()[-1], JobAccepted)
    assert [one.scaler for one in world.launched] == ["big"]


# S49
def test_full_best_match_waits_instead_of_spilling_over():
    world = World(
        scaler("big", label_set("linux", "gpu")), scaler("small", max_agents=1), settings={}
    )
    world.offer("j1")
    world.offer("j2")
    assert [one.scaler for one in world.launched] == ["small"]
    assert world.job("j2").state is JobState.QUEUED


# S55 S56 S57
def test_resource_cap_allows_equality_and_frees_on_the_end():
    two = label_set("linux", resources=Resources(requests=ResourceSpec(cpus=2)))
    world = World(scaler("s1", two, max_agents=9, resource_cap=ResourceCap(max_cpu=4)))
    for number in range(3):
        world.offer(f"j{number}")
    assert len(world.launched) == 2
    agent = world.launched[0].agent_id
    world.backend(agent, "started")
    world.register(agent, AGENT)
    world.run(agent, "j0")
    world.end(agent=agent, job="j0")
    world.backend(agent, "exited")
    world.lose(agent)
    assert len(world.launched) == 3


# S76
def test_few_agents_are_on_their_way_at_once():
    world = World(scaler(max_agents=50))
    for number in range(20):
        world.offer(f"j{number}")
    assert len(world.launched) == 8
    world.arrive(0)
    assert len(world.launched) == 9


# S73 S79 W100 P60 P64 S94
def test_failing_launches_back_off_and_then_fail_the_job():
    world = World(scaler())
    world.offer()
    for count in (1, 2, 3):
        assert len(world.launched) == count
        world.backend(world.launched[-1].agent_id, "failed", "no such image")
        world.wait(4.9)
        assert len(world.launched) == count
        world.wait(6)
    assert world.error() == "agent could not be started: no such image"
    events = [one["eventType"] for one in world.frames() if one["type"] == "scaler.event"]
    assert events == ["scaler.provisioning", "scaler.provisioning", "scaler.failed"]
    assert world.now - 1000 < 90


# S79
def test_agent_that_exits_before_it_registers_is_a_failed_launch():
    world = World(scaler())
    world.offer()
    agent = world.launched[0].agent_id
    world.backend(agent, "started")
    world.backend(agent, "exited", "code 1")
    assert world.agent(agent) is None
    assert world.job().state is JobState.QUEUED
    world.wait(6)
    assert len(world.launched) == 2


# S75 S74
def test_agent_that_never_registers_is_reaped():
    world = World(scaler(), settings={"spawn_timeout_s": 20.0})
    world.offer()
    agent = world.launched[0].agent_id
    world.backend(agent, "started")
    world.wait(21)
    assert world.reaped[0].agent_id == agent
    assert world.agent(agent).state is AgentState.STOPPING


def test_broken_label_set_refuses_and_recovers():
    world = World(scaler())
    for number in range(4):
        world.offer(f"j{number}")
    for _ in range(12):
        for launch in list(world.launched):
            world.backend(launch.agent_id, "failed", "no")
        world.wait(400)
    n_launched = len(world.launched)
    assert n_launched < 40
    world.offer("late")
    assert isinstance(world.answers()[-1], JobDeclined)
    assert world.answers()[-1].reason == "No matching agent available: no"
    world.register("static", AGENT)
    world.offer("later")
    assert isinstance(world.answers()[-1], JobAccepted)


def quarantine(world):
    """Five starts in a row die, with a job or two that try."""
    for number in range(2):
        world.offer(f"q{number}")
        for _ in range(3):
            world.backend(world.launched[-1].agent_id, "failed", "no disk")
            if world.core.board.scaling.quarantined():
                world.cancel("q1")
                return
            world.wait(80)


def test_quarantined_label_set_is_shown_and_probed_without_a_job():
    world = World(scaler(max_agents=4))
    quarantine(world)
    world.wait(0.2)
    told = [one for one in world.told["web"] if isinstance(one, PoolCapacity)][-1]
    assert (told.scalers[0].healthy, told.scalers[0].reason) == (False, "no disk")
    world.wait(100)
    probes = [one for one in world.launched if one.job_id is None]
    assert len(probes) == 1, "one probe at a time"
    # It dies too: another pause, another probe, and no job was put at risk.
    world.backend(probes[0].agent_id, "failed", "no disk")
    world.wait(159)
    assert len([one for one in world.launched if one.job_id is None]) == 1
    world.wait(2)
    probe = [one for one in world.launched if one.job_id is None][1].agent_id
    world.backend(probe, "started")
    world.register(probe, AGENT)
    assert not world.core.board.scaling.quarantined()
    world.offer("after")
    assert isinstance(world.answers()[-1], JobAccepted)
    assert world.dispatches()[-1][0] == f"c-{probe}"


def test_unhealthy_backend_refuses_what_only_it_could_serve():
    world = World(scaler())
    world.do(HealthChanged("s1", "engine is down"))
    world.offer()
    assert world.answers()[0].reason == "No matching agent available: engine is down"
    world.do(HealthChanged("s1", ""))
    world.offer("j2")
    assert isinstance(world.answers()[-1], JobAccepted)


# A78
def test_scaler_agent_lost_before_the_start_gives_the_job_to_another():
    world = World(scaler())
    world.offer()
    agent = world.arrive()
    world.ack(agent)
    world.lose(agent)
    assert world.reaped[-1].agent_id == agent
    world.arrive()
    assert len(world.dispatches()) == 2


# A78 S71 W114
def test_scaler_agent_that_ends_while_running_fails_its_job_at_once():
    world = World(scaler())
    world.offer()
    agent = world.arrive()
    world.run(agent)
    world.log("last", agent=agent)
    world.backend(agent, "exited", "killed by signal 9")
    world.log("words", agent=agent)
    world.lose(agent)
    assert world.error() == "agent lost while running the job (exited: killed by signal 9)"
    assert world.frames()[-2]["lines"][0]["text"] == "words"
    assert world.agent(agent) is None


def test_scaler_agent_that_only_lost_its_connection_may_come_back():
    world = World(scaler())
    world.offer()
    agent = world.arrive()
    world.run(agent)
    world.lose(agent)
    world.wait(50)
    world.register(agent, AGENT, jobs=[("r1", "j1")], connection="again")
    world.wait(100)
    assert not world.finished()
    assert world.states() == ["running", "running"]


# S62
def test_full_machine_pool_undoes_the_reservation_and_asks_again():
    world = World(scaler(max_agents=1))
    world.offer()
    world.do(LedgerRefused(world.launched[0].agent_id, "full"))
    assert world.core.n_launched == 0
    world.wait(6)
    assert len(world.launched) == 2
    assert not world.finished()


# S78: as in 0.1.24; whoever has a static token may call itself as it likes.
def test_an_unknown_scaler_id_with_a_static_token_is_a_static_agent():
    world = World(scaler())
    grant = TokenGrant(token_id="t", kind="static", labels=None)
    ack = world.register("scaler-container-00000001", ("linux", "kici:scaler:s1"), grant=grant)
    assert not ack.scaler_managed
    for job in ("j1", "j2"):
        world.offer(job)
        world.run("scaler-container-00000001", job)
        world.end(agent="scaler-container-00000001", job=job)
    assert len(world.finished()) == 2, "it is not single use"
    assert world.reaped == []


# S86
def test_warm_pool_is_filled_used_and_filled_again():
    pool = WarmPool(enabled=True, size=1, idle_timeout_s=300)
    world = World(scaler(max_agents=2, warm_pool=pool))
    assert len(world.launched) == 1
    agent = world.launched[0].agent_id
    world.backend(agent, "started")
    assert world.register(agent, AGENT).warm_pool is True
    world.wait(1000)
    assert not world.reaped
    world.offer()
    assert world.dispatches()[0][0] == f"c-{agent}"
    assert len(world.launched) == 2


# S86
def test_warm_agents_that_leave_by_themselves_do_not_respawn_without_end():
    world = World(scaler(warm_pool=WarmPool(enabled=True, size=1)))
    for _ in range(20):
        agent = world.launched[-1].agent_id
        if world.agent(agent) is not None:
            world.arrive()
            world.backend(agent, "exited")
            world.lose(agent)
        world.wait(10)
    assert len(world.launched) < 20


# S87
def test_warm_agent_does_not_get_a_job_with_other_resources_or_image():
    world = World(scaler(max_agents=5, warm_pool=WarmPool(enabled=True, size=1)))
    world.arrive()
    world.offer("j1", jobConfig={"container": {"image": "alpine"}})
    world.offer("j2", jobConfig={"resources": {"requests": {"cpus": 2}}})
    assert not world.dispatches()
    assert world.launched[-1].requests.cpus == 2


def test_agent_nobody_needs_any_more_is_stopped():
    world = World(scaler())
    world.offer()
    world.cancel()
    agent = world.arrive()
    world.wait(61)
    assert world.reaped[-1].agent_id == agent


# A79
def test_agents_found_after_a_restart_are_adopted_or_reaped():
    world = World(scaler(), outbox=False)
    found = [
        FoundAgent(agent_id=f"scaler-fake-{n}", job_id=f"j{n}", run_id="r1", label_set_labels=())
        for n in (1, 2)
    ]
    world.do(AgentsFound("s1", found))
    world.outbox(key("j1"), key("j2"))
    world.register("scaler-fake-1", AGENT, jobs=[("r1", "j1")])
    assert world.states("j1") == ["running"]
    world.wait(125)
    assert [one.agent_id for one in world.reaped] == ["scaler-fake-2"]
    assert world.error("j2") == "worker restarted"
    world.end(agent="scaler-fake-1")
    world.store()
    assert [one.agent_id for one in world.reaped] == ["scaler-fake-2", "scaler-fake-1"]


def test_found_agent_that_was_on_its_way_gets_the_job_it_was_made_for():
    world = World(scaler(), outbox=False)
    one = FoundAgent(agent_id="scaler-fake-1", job_id="j1", run_id="r1", label_set_labels=())
    world.do(AgentsFound("s1", [one]))
    world.outbox(key())
    world.offer(again=True)
    assert not world.launched
    world.register("scaler-fake-1", AGENT)
    assert world.dispatches()[0][0] == "c-scaler-fake-1"


def test_agent_that_is_being_stopped_is_not_registered():
    world = World(scaler(), settings={"spawn_timeout_s": 20.0})
    world.offer()
    world.wait(21)
    assert isinstance(world.register(world.launched[0].agent_id, AGENT), RemoteError)


def test_stopped_agent_that_does_not_go_is_given_up():
    world = World(scaler(), settings={"spawn_timeout_s": 20.0})
    world.offer()
    agent = world.launched[0].agent_id
    world.wait(80)
    assert world.agent(agent) is None
    assert any(note.level == "error" for note in world.notes)


def test_agent_that_is_gone_has_no_connection_left():
    """Its network may have died before its last packets."""
    world = World(scaler())
    world.offer()
    world.cancel()
    agent = world.arrive()
    assert not world.closed
    world.wait(61)
    assert world.agent(agent) is None
    assert len(world.closed) == 1


def test_reload_changes_what_can_be_started():
    world = World(scaler())
    world.do(ScalersChanged(config(scaler("s2", label_set("mac"))).scalers))
    world.offer("j1")
    world.offer("j2", labels=("mac",))
    assert [type(one) for one in world.answers()] == [JobDeclined, JobAccepted]


# S72
@pytest.mark.parametrize("kind", ["started", "exited", "failed", "provisioning", "network"])
def test_news_of_an_unknown_agent_is_harmless(kind):
    world = World(scaler())
    world.backend("scaler-fake-ffffffff", kind)
    assert not world.reaped


# A50 P44
def test_lowest_agent_id_is_taken_or_the_first_when_any_may_be():
    world = World()
    for agent in ("b", "a"):
        world.register(agent)
    world.offer("j1", jobConfig={"runsOnPick": "any"})
    world.lose("b")
    world.register("b")
    world.offer("j2")
    assert [connection for connection, _ in world.dispatches()][0] == "c-b"


def test_found_agent_that_never_comes_gives_its_job_to_another():
    world = World(scaler(), outbox=False)
    one = FoundAgent(agent_id="scaler-fake-1", job_id="j1", run_id="r1", label_set_labels=())
    world.do(AgentsFound("s1", [one]))
    world.outbox(key())
    world.offer(again=True)
    world.wait(121)
    assert [one.agent_id for one in world.reaped] == ["scaler-fake-1"]
    world.arrive()
    assert len(world.dispatches()) == 1


def test_nothing_is_started_before_the_backend_has_said_what_exists():
    world = World(scaler())
    world.do(AgentsSought(["s1"]))
    world.offer()
    assert not world.launched
    found = FoundAgent(agent_id="old-1", job_id=None, run_id=None, label_set_labels=("linux",))
    world.do(AgentsFound("s1", [found, msgspec.structs.replace(found, agent_id="old-2")]))
    assert not world.launched  # both places are taken


# S84
def test_a_backend_that_never_says_what_exists_is_not_waited_for_without_end():
    world = World(scaler())
    world.do(AgentsSought(["s1"]))
    world.offer()
    world.wait(29)
    assert not world.launched
    world.wait(2)
    assert len(world.launched) == 1
