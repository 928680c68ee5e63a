"""The container backend on real engines: the contract, the spec's points, trouble."""

import json
import os
import time

import docker
import gevent
import pytest

from kici.config.model import NetworkPolicy, ResourceSpec
from kici.pool.scalers.base import KILL_S, CannotLook
from kici.pool.scalers.container_body import body
from kici.pool.scalers.engine import classify
from tests.support.backend_world import STUBBORN, EventKind, World, scaler_for
from tests.support.container_engine import IMAGE, VOLUMES
from tests.support.waiting import until

pytestmark = pytest.mark.engine


@pytest.fixture
def world(engine, tmp_path):
    """One backend; at the end no container of any test's owner is left."""
    found = World(engine, tmp_path)
    until(lambda: found.backend.health() == "" or not engine.socket.exists())
    yield found
    for one in list(found.backend._agents):
        found.backend.reap(one, 0)
    until(lambda: not found.backend._agents)
    assert found.containers() == []
    found.backend.close()


# --- the contract --------------------------------------------------------------------


# S92 S108
def test_an_agent_starts_runs_and_is_reaped(world):
    agent = world.started()
    (row,) = world.containers()
    assert row["State"] == "running"
    world.wait_output(agent, "agent is up")
    begin = time.monotonic()
    world.backend.reap(agent, 5)
    detail = world.wait_for(agent, EventKind.EXITED)
    assert time.monotonic() - begin < 4
    assert detail.startswith("stopped on order: exit code 0")
    assert "agent is up" in detail
    assert world.containers() == []
    assert world.kinds(agent) == [EventKind.PROVISIONING, EventKind.STARTED, EventKind.EXITED]


# S79
def test_an_agent_that_ends_is_reported_with_code_and_output(world):
    agent = world.started("print('first');print('last words');raise SystemExit(7)")
    detail = world.wait_for(agent, EventKind.EXITED)
    assert detail.splitlines()[0] == "exit code 7"
    assert detail.splitlines()[-2:] == ["first", "last words"]
    until(lambda: world.containers() == [])


# S108
def test_an_agent_that_ignores_the_signal_is_killed_in_time(world):
    agent = world.started(STUBBORN)
    world.wait_output(agent, "deaf")
    begin = time.monotonic()
    world.backend.reap(agent, 1)
    assert "137" in world.wait_for(agent, EventKind.EXITED)
    assert time.monotonic() - begin < 1 + KILL_S
    assert world.containers() == []
    world.backend.reap(agent, 1)  # a second time does nothing
    gevent.sleep(0.1)
    assert world.kinds(agent).count(EventKind.EXITED) == 1


def test_reaping_an_unknown_agent_is_harmless(world):
    world.backend.reap("nobody", 1)
    gevent.sleep(0.2)
    assert world.events == []


# S107
def test_an_agent_reaped_while_it_starts_leaves_nothing(world):
    agents = [world.launch() for _ in range(6)]
    for number, agent in enumerate(agents):
        gevent.sleep(0.05 * number)
        world.backend.reap(agent, 1)
    ends = {EventKind.FAILED, EventKind.EXITED}
    until(lambda: all(ends & set(world.kinds(agent)) for agent in agents))
    gevent.sleep(0.3)
    assert world.containers() == []
    for agent in agents:
        kinds = world.kinds(agent)
        assert len(ends & set(kinds)) == 1
        assert (EventKind.EXITED in kinds) == (EventKind.STARTED in kinds)


def test_twenty_agents_at_once_all_start_and_end(world):
    before = len(os.listdir("/proc/self/fd"))
    agents = [world.launch("print('x')") for _ in range(20)]
    until(lambda: all(EventKind.EXITED in world.kinds(agent) for agent in agents), 60)
    assert all("x" in world.detail(agent, EventKind.EXITED) for agent in agents)
    assert world.containers() == []
    # Kept connections to the engine may stay; nothing per agent does.
    # The few connections to the engine that are kept may differ; nothing per agent stays.
    until(lambda: len(os.listdir("/proc/self/fd")) <= before + 4)


# --- what is created -----------------------------------------------------------------


# S102 S106
def test_the_container_is_what_the_spec_says(world):
    agent = world.started(
        limits=ResourceSpec(cpus=1.005, memory_bytes=64 * 2**20), run_id="r1", job_id="j1"
    )
    (row,) = world.containers()
    found = world.client().inspect_container(row["Id"])
    assert found["Name"].lstrip("/") == f"kici-{agent}"
    labels = {k: v for k, v in found["Config"]["Labels"].items() if k.startswith("kici")}
    assert labels == {
        "kici-managed": "true",
        "kici.worker": "w1",
        "kici-scaler-name": "box",
        "kici-agent-id": agent,
        "kici-labels": "gpu,linux",
        "kici-bound-job-id": "j1",
        "kici-run-id": "r1",
    }
    environment = found["Config"]["Env"]
    assert "KICI_EXECUTION_MODE=bare-metal" in environment
    assert f"KICI_AGENT_TOKEN=kat_{'a' * 64}" in environment
    host = found["HostConfig"]
    assert host["Memory"] == 64 * 2**20
    assert host["AutoRemove"] is False
    assert host["PidsLimit"] == 4096
    assert "no-new-privileges" in str(host["SecurityOpt"])
    assert not host["Privileged"]


def test_an_image_that_hides_the_init_process_is_run_without(world):
    """/usr over everything hides what Docker puts into /sbin; Podman's lies elsewhere."""
    for _ in range(2):
        agent = world.started("print('up')", label_set={"volumes": ("/usr:/usr:ro",)})
        assert "up" in world.wait_for(agent, EventKind.EXITED)
        assert world.kinds(agent).count(EventKind.STARTED) == 1


def test_the_agents_process_cannot_gain_privileges_and_is_not_pid_1_alone(world):
    code = (
        "import time;s=open('/proc/self/status').read();"
        "print([l for l in s.splitlines() if l.startswith('NoNewPrivs')][0],flush=True)"
    )
    agent = world.started(code)
    assert "NoNewPrivs:\t1" in world.wait_for(agent, EventKind.EXITED)


# S103
def test_the_engine_socket_is_shared_only_when_asked_for(world, engine):
    code = f"import os;print('socket',os.path.exists({str(engine.socket)!r}))"
    shared = world.started(code, label_set={"container_socket": True})
    alone = world.started(code)
    assert "socket True" in world.wait_for(shared, EventKind.EXITED)
    assert "socket False" in world.wait_for(alone, EventKind.EXITED)


def test_extra_hosts_are_known_in_the_container(engine, tmp_path):
    hosts = ("db.example:10.9.8.7", "worker.example:host-gateway")
    world = World(engine, tmp_path, scaler=scaler_for(engine, extra_hosts=hosts))
    until(lambda: world.backend.health() == "")
    agent = world.started("print(open('/etc/hosts').read())")
    detail = world.wait_for(agent, EventKind.EXITED)
    assert "10.9.8.7" in detail
    (line,) = [line for line in detail.splitlines() if "worker.example" in line]
    assert line.split()[0].count(".") == 3
    assert "host-gateway" not in detail
    world.backend.close()


def test_a_container_out_of_memory_is_said_to_be(world):
    code = "print('filling',flush=True);x=b'x'*(400*2**20);print('survived')"
    agent = world.started(code, limits=ResourceSpec(memory_bytes=48 * 2**20))
    detail = world.wait_for(agent, EventKind.EXITED)
    assert detail.splitlines()[0].startswith("exit code 137 (")
    assert "memory" in detail.splitlines()[0]
    assert "survived" not in detail


# S109 S110
def test_output_becomes_json_lines_of_ours_and_a_tail_of_50(world, capfd, engine):
    code = (
        "import json\n"
        "print(json.dumps({'level':'warn','message':'own','agentId':'forged','n':1}))\n"
        "for n in range(60): print('line',n)\n"
        "print('secret kat_'+'b'*64)"
    )
    agent = world.started(code)
    detail = world.wait_for(agent, EventKind.EXITED)
    written = [
        json.loads(line) for line in capfd.readouterr().out.splitlines() if '"agent"' in line
    ]
    mine = [row for row in written if row.get("agentId") == agent]
    assert len(mine) == 62
    assert mine[0] == {
        "level": "warn",
        "message": "own",
        "n": 1,
        "service": "agent",
        "agentId": agent,
        "logsSource": engine.runtime,
    }
    assert mine[1]["message"] == "line 0"
    assert "bbbb" not in json.dumps(mine) + detail
    tail = detail.splitlines()[1:]
    assert (len(tail), tail[0], tail[-2]) == (50, "line 11", "line 59")


# --- failures ------------------------------------------------------------------------


# S105 S107
def test_a_missing_image_that_must_not_be_pulled_fails_at_once(world):
    agent = world.launch(image="kici-nowhere:1")
    detail = world.wait_for(agent, EventKind.FAILED)
    assert "kici-nowhere" in detail
    assert "aaaa" not in detail
    assert world.kinds(agent) == [EventKind.PROVISIONING, EventKind.FAILED]


# S105
@pytest.mark.parametrize("policy", ["IfNotPresent", "Always"])
def test_a_pull_from_a_registry_that_is_not_there_fails_with_its_name(world, policy):
    agent = world.launch(image="127.0.0.1:1/team/img:2", policy=policy)
    detail = world.wait_for(agent, EventKind.FAILED)
    assert "127.0.0.1:1/team/img" in detail
    first = [e.detail for e in world.events if e.kind == EventKind.PROVISIONING][0]
    assert first == "Pulling image 127.0.0.1:1/team/img:2"


# S105
def test_an_image_that_is_there_is_not_pulled(world):
    agent = world.started(policy="IfNotPresent")
    assert world.kinds(agent).count(EventKind.PROVISIONING) == 1


# S107
def test_a_mount_that_does_not_exist_fails_and_leaves_no_container(world):
    agent = world.launch(label_set={"volumes": (*VOLUMES, "/usr/bin/env:/proc/nope:ro")})
    world.wait_for(agent, EventKind.FAILED)
    assert world.containers() == []


# S107
def test_an_image_whose_command_is_missing_fails_with_the_engines_words(world):
    agent = world.launch(label_set={"volumes": ()})
    ends = {EventKind.FAILED, EventKind.EXITED}  # the init process finds out, where there is one
    until(lambda: ends & set(world.kinds(agent)))
    assert "python3" in world.events[-1].detail
    until(lambda: world.containers() == [])


# --- owners --------------------------------------------------------------------------


# S111
def test_another_workers_containers_are_neither_listed_nor_touched(world, engine, tmp_path):
    other = World(engine, tmp_path, owner="w2")
    same_owner = World(engine, tmp_path, scaler=scaler_for(engine, name="box2"))
    for one in (other, same_owner):
        until(lambda one=one: one.backend.health() == "")
    theirs, mine = other.started(), world.started()
    assert [found.agent_id for found in world.backend.found()] == []
    world.backend.reap(theirs, 0)
    same_owner.backend.reap(mine, 0)
    other.backend._leftovers.clear(other.backend._calls.mine())
    gevent.sleep(1.5)
    assert {row["State"] for row in world.containers()} == {"running"}
    assert len(world.containers()) == 2
    other.backend.reap(theirs, 1)
    other.wait_for(theirs, EventKind.EXITED)
    for one in (other, same_owner):
        one.backend.close()


# S111
def test_after_a_restart_agents_are_found_adopted_or_reaped(world, engine, tmp_path):
    first = World(engine, tmp_path)
    until(lambda: first.backend.health() == "")
    stay = first.started(job_id="j1", run_id="r1")
    go = first.started()
    first.backend.close()
    assert {row["State"] for row in world.containers()} == {"running"}  # close kills nothing
    found = {one.agent_id: one for one in world.backend.found()}
    assert set(found) == {stay, go}
    assert (found[stay].job_id, found[stay].run_id) == ("j1", "r1")
    assert tuple(found[stay].label_set_labels) == ("gpu", "linux")
    world.backend.adopt(stay)
    world.backend.reap(go, 2)
    until(lambda: len(world.containers()) == 1)
    assert [one.agent_id for one in world.backend.found()] == []
    world.client().kill(f"kici-{stay}")
    assert "137" in world.wait_for(stay, EventKind.EXITED)
    assert world.containers() == []


def test_adopting_an_agent_that_is_gone_is_reported(world):
    world.backend.adopt("nobody")
    assert world.wait_for("nobody", EventKind.EXITED) == "container is gone"


# S111
def test_an_ended_leftover_is_cleared_away_and_says_why(world, engine, tmp_path, caplog):
    caplog.set_level("INFO", logger="kici")
    first = World(engine, tmp_path)
    until(lambda: first.backend.health() == "")
    agent = first.started()
    first.backend.close()
    world.client().kill(f"kici-{agent}")
    until(lambda: world.containers() == [])
    (record,) = [one for one in caplog.records if one.msg == "Removing a container"]
    assert record.reason == "it ended while nobody watched"


# S111
def test_a_running_agent_is_a_leftover_only_when_it_was_offered_in_vain(
    world, engine, tmp_path, monkeypatch
):
    monkeypatch.setattr("kici.pool.scalers.container_leftovers.LEFTOVER_S", 0.0)
    first = World(engine, tmp_path)
    until(lambda: first.backend.health() == "")
    agent = first.started()
    first.backend.close()
    world.backend._reconcile()
    assert len(world.containers()) == 1
    assert [one.agent_id for one in world.backend.found()] == [agent]
    world.backend._reconcile()
    until(lambda: world.containers() == [])


# S111
def test_an_agent_of_the_former_backend_is_no_leftover_of_the_new_one(
    world, engine, tmp_path, monkeypatch
):
    """As after a reload: two backends of one scaler in one process."""
    monkeypatch.setattr("kici.pool.scalers.container_leftovers.LEFTOVER_S", 0.0)
    agent = world.started("print('up',flush=True);import time;time.sleep(600)")
    world.wait_output(agent, "up")
    new = World(engine, tmp_path, held=world.backend._agents.__contains__, poll_s=0.1)
    until(lambda: new.backend.health() == "")
    assert new.backend.found() == []
    new.backend._reconcile()
    new.backend._reconcile()
    assert [row["State"] for row in world.containers()] == ["running"]
    world.client().kill(f"kici-{agent}")
    detail = world.wait_for(agent, EventKind.EXITED)
    assert "137" in detail
    assert "up" in detail
    assert new.events == []
    new.backend.close()


def test_a_container_that_nobody_starts_is_cleared_away(world, monkeypatch):
    spec = world.spec()
    made = body(
        spec, owner="w1", image=IMAGE, network=None, socket_path=None, extra_hosts=(), init=False
    )
    world.client().create_container_from_config(made, "kici-late")
    world.backend._reconcile()
    assert len(world.containers()) == 1
    monkeypatch.setattr("kici.pool.scalers.container_leftovers._UNSTARTED_S", 0.0)
    world.backend._reconcile()
    assert world.containers() == []


def test_a_container_removed_behind_our_back_is_an_end(world):
    agent = world.started()
    world.client().remove_container(f"kici-{agent}", force=True)
    world.wait_for(agent, EventKind.EXITED)


def test_an_end_is_seen_by_the_poll_when_no_event_comes(engine, tmp_path):
    world = World(engine, tmp_path, poll_s=0.3)
    until(lambda: world.backend.health() == "")
    agent = world.started()
    world.backend._helpers[0].kill()
    world.client().kill(f"kici-{agent}")
    world.wait_for(agent, EventKind.EXITED, 5)
    world.backend.close()


# --- isolation -----------------------------------------------------------------------


@pytest.fixture
def isolated(engine, tmp_path):
    world = World(engine, tmp_path, scaler=scaler_for(engine, network_isolation=True))
    until(lambda: world.backend.health() == "")
    yield world
    for one in list(world.backend._agents):
        world.backend.reap(one, 0)
    until(lambda: not world.backend._agents)
    world.backend.close()


def chain(world, name="forward"):
    return world.backend._yard.isolation._run("-a", "list", "chain", "ip", "kici", name)


def sources(world, name="forward"):
    return {line.split()[2] for line in chain(world, name).splitlines() if "ip saddr" in line}


# S100 S112 S92
def test_isolation_makes_the_network_and_filters_the_agents_address(isolated):
    policy = NetworkPolicy(allowlist=("10.1.0.0/16", "192.168.5.5"), deny_all=True)
    agent = isolated.started(label_set={"network_policy": policy})
    kinds = isolated.kinds(agent)
    assert kinds[-2:] == [EventKind.NETWORK, EventKind.STARTED]
    (network,) = isolated.client().networks(names=["kici-agent-net"])
    found = isolated.client().inspect_network(network["Id"])
    assert found["IPAM"]["Config"][0]["Subnet"] == "172.30.0.0/16"
    assert found["IPAM"]["Config"][0]["Gateway"] == "172.30.0.1"
    assert found["Labels"]["kici-managed"] == "true"
    address = isolated.backend._calls.address(f"kici-{agent}")
    lines = [line for line in chain(isolated).splitlines() if f"ip saddr {address} " in line]
    rules = [line.split(f"ip saddr {address} ")[1].split(" #")[0] for line in lines]
    assert rules == [
        "ip daddr 172.30.0.1 accept",
        "ip daddr 10.1.0.0/16 accept",
        "ip daddr 192.168.5.5 accept",
        "ip daddr 10.0.0.0/8 drop",
        "ip daddr 172.16.0.0/12 drop",
        "ip daddr 192.168.0.0/16 drop",
        "ip daddr 169.254.0.0/16 drop",
        "drop",
    ]
    isolated.backend.reap(agent, 2)
    isolated.wait_for(agent, EventKind.EXITED)
    assert address not in sources(isolated) | sources(isolated, "input")


def test_an_isolated_agent_reaches_the_worker_and_nothing_else_of_the_host(isolated, engine):
    code = (
        "import socket,time;time.sleep(1)\n"  # the filter comes right after the start
        "def reach(port):\n"
        "  try: socket.create_connection(('172.30.0.1',port),2).close(); return True\n"
        "  except ConnectionRefusedError: return True\n"
        "  except OSError: return False\n"
        "print('worker',reach(4000),'other',reach(4001))"
    )
    agent = isolated.started(code)
    assert "worker True other False" in isolated.wait_for(agent, EventKind.EXITED)


# S112
def test_rules_of_addresses_that_no_container_has_are_swept(isolated):
    agent = isolated.started()
    _watch, poll = isolated.backend._helpers
    poll.kill()  # it would sweep at any moment
    address = isolated.backend._calls.address(f"kici-{agent}")
    isolation = isolated.backend._yard.isolation
    isolation.admit("172.30.9.9", None, "ws://x:1/ws")
    assert "172.30.9.9" in sources(isolated)
    isolated.backend._reconcile()
    assert sources(isolated) == {address}


def test_without_nft_agents_run_with_one_warning_and_strict_policies_do_not(
    engine, tmp_path, caplog
):
    scaler = scaler_for(engine, network_isolation=True)
    world = World(engine, tmp_path, scaler=scaler, nft=("no-such-nft",))
    until(lambda: world.backend.health() == "")
    agents = [world.started(), world.started()]
    strict = world.launch(label_set={"network_policy": NetworkPolicy(deny_all=True)})
    detail = world.wait_for(strict, EventKind.FAILED)
    assert "networkPolicy cannot be enforced: no-such-nft is not installed" in detail
    warnings = [one for one in caplog.records if "without packet filter" in one.getMessage()]
    assert len(warnings) == 1
    for agent in agents:
        world.backend.reap(agent, 0)
        world.wait_for(agent, EventKind.EXITED)
    world.backend.close()


# --- an engine that comes and goes ---------------------------------------------------


# docker-py leaves the socket of a failed connect to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_engine_that_is_down_at_start_is_used_when_it_comes_up(engine, tmp_path):
    late = tmp_path / "late.sock"
    world = World(engine, tmp_path, scaler=scaler_for(engine, socket_path=str(late)))
    assert "does not answer" in world.backend.health()
    refused = world.launch()
    assert "does not answer" in world.wait_for(refused, EventKind.FAILED)
    with pytest.raises(CannotLook, match="does not answer"):
        world.backend.found()
    late.symlink_to(engine.socket)
    until(lambda: world.backend.health() == "")
    agent = world.started()
    world.backend.reap(agent, 1)
    world.wait_for(agent, EventKind.EXITED)
    world.backend.close()


# docker-py leaves the socket of a failed connect to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_engine_that_goes_away_makes_the_backend_unhealthy_and_its_agents_are_found_again(
    engine, tmp_path
):
    """The socket goes, the engine lives on: what a restart of Podman's service looks like."""
    link = tmp_path / "eng.sock"
    link.symlink_to(engine.socket)
    world = World(engine, tmp_path, scaler=scaler_for(engine, socket_path=str(link)), poll_s=0.2)
    until(lambda: world.backend.health() == "")
    ends, goes = world.started(), world.started()
    link.unlink()
    world.backend._engine.failed(world.client(), classify(OSError("gone")))
    assert "does not answer" in world.backend.health()
    world.backend.reap(goes, 0)
    assert "container is gone" in world.wait_for(goes, EventKind.EXITED)
    client = docker.APIClient(base_url=engine.url, version="auto")
    client.kill(f"kici-{ends}")
    link.symlink_to(engine.socket)
    assert "137" in world.wait_for(ends, EventKind.EXITED)
    until(lambda: world.containers() == [])  # the one that could not be removed, too
    client.close()
    world.backend.close()
