"""``/metrics`` and everything that is built on its names."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from kici.contracts.link.jobs import OutboxState
from kici.contracts.link.views import AgentView, DeclineView, SpoolState, StepView
from kici.web.tally import Histogram, Tally, refusal_kind
from tests.support.web_child import (
    COORDINATOR,
    WebChild,
    capacity,
    child_state,
    finished,
    job,
    peer_state,
    slot,
    until,
)

CONF = Path(__file__).resolve().parents[2] / "conf"
NAME = re.compile(r"\bkici_[a-z0-9_]+\b")


def scrape(web: WebChild) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """``(name, labels) -> value``, parsed by Prometheus' own parser."""
    status, headers, body = web.request("GET", "/metrics")
    assert (status, headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def fill(web: WebChild) -> None:
    times = {"accepted_at": 90.0, "started_at": 100.0, "completed_at": 140.0}
    steps = (StepView(index=0, name="make", state="success", started_at=1.0, ended_at=2.0),)
    web.peer.tell(peer_state(1, "connected", counters={"reconnects": 3}))
    web.peer.tell(OutboxState(rev=1, open=(), n_concluded=2, n_bytes=900, oldest_at=1.0))
    web.peer.tell(SpoolState(rev=1, n_bytes=5, limit_bytes=10, n_lost_lines=7))
    web.supervisor.tell(child_state(1, "pool", n_restarts=4))
    web.pool.tell(DeclineView(rev=1, at=1.0, job_name="b", labels=(), reason="Worker is draining"))
    for rev, (state, since) in enumerate((("starting", 10.0), ("idle", 13.0)), 1):
        web.pool.tell(agent(rev, state, since))
    web.pool.tell(agent(1, "starting", 10.0, "lost"))
    web.pool.tell(agent(2, "gone", 12.0, "lost"))
    web.pool.tell(job(1, "j-1"))
    web.pool.tell(finished(2, "j-0", steps=steps, **times))
    web.pool.tell(capacity(1, slot("a", 1), n_queued_jobs=3))
    web.eventually("/status", lambda b: b["activeJobs"] == 1)
    until(lambda: scrape(web), lambda m: m.get(("kici_worker_log_lines_lost_total", ())) == 7)


def agent(rev: int, state: str, since: float, agent_id: str = "a") -> AgentView:
    return AgentView(
        rev=rev,
        agent_id=agent_id,
        state=state,
        since=since,
        scaler_name="pi",
        labels=(),
        active_jobs=0,
        max_concurrency=1,
        version=None,
        hostname=None,
        reason="",
    )


# W89 W149
def test_metrics_tell_what_the_owners_told(web: WebChild) -> None:
    fill(web)
    web.supervisor.tell(child_state(2, "web", pid=web.process.pid))
    seen = until(
        lambda: scrape(web), lambda m: ("kici_worker_process_up", (("process", "web"),)) in m
    )
    here = ("coordinator", COORDINATOR)
    wanted = {
        ("kici_orch_agents_active", ()): 1,
        ("kici_orch_dispatch_queue_depth", (("status", "pending"),)): 3,
        ("kici_orch_executions_total", (("status", "success"),)): 1,
        ("kici_orch_steps_total", (("status", "success"),)): 1,
        ("kici_orch_execution_duration_seconds_bucket", (("le", "30.0"),)): 0,
        ("kici_orch_execution_duration_seconds_bucket", (("le", "60.0"),)): 1,
        ("kici_orch_execution_duration_seconds_sum", ()): 40,
        ("kici_orchestrator_draining", ()): 0,
        ("kici_worker_jobs_active", ()): 1,
        ("kici_worker_link_connected", (here,)): 1,
        (
            "kici_worker_link_events_total",
            (("coordinator", COORDINATOR), ("event", "reconnects")),
        ): 3,
        ("kici_worker_outbox_records", (("state", "concluded"),)): 2,
        ("kici_worker_log_spool_bytes", ()): 5,
        ("kici_worker_process_restarts_total", (("process", "pool"),)): 4,
        ("kici_worker_refusals_total", (("reason", "draining"),)): 1,
        ("kici_worker_spawn_seconds_sum", ()): 3,
        ("kici_worker_queue_seconds_sum", ()): 10,
        ("kici_worker_agents_lost_starting_total", (("scaler", "pi"),)): 1,
    }
    assert {key: seen.get(key) for key in wanted} == wanted
    assert seen["kici_worker_disk_free_bytes", ()] > 0
    assert ("kici_worker_disk_written_bytes_total", ()) in seen


def test_a_job_that_never_started_waited_and_ran_for_no_time_that_counts(web: WebChild) -> None:
    web.pool.tell(job(1, "j-1", "queued", started_at=None))
    web.pool.tell(finished(2, "j-1", "cancelled", started_at=None))
    cancelled = ("kici_orch_executions_total", (("status", "cancelled"),))
    seen = until(lambda: scrape(web), lambda m: m.get(cancelled) == 1)
    assert seen["kici_worker_queue_seconds_count", ()] == 0
    assert seen["kici_orch_execution_duration_seconds_count", ()] == 0


def exposed(web: WebChild) -> set[str]:
    """Every sample name; families without samples count by their declaration."""
    text = web.request("GET", "/metrics")[2].decode()
    declared = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    return declared | {name for name, _labels in scrape(web)}


def test_the_dashboard_uses_only_names_that_exist(web: WebChild) -> None:
    fill(web)
    dashboard = json.loads((CONF / "grafana/kici-worker.json").read_text())
    expressions = [t["expr"] for panel in dashboard["panels"] for t in panel["targets"]]
    assert len(expressions) > 15
    used = {name for expression in expressions for name in NAME.findall(expression)}
    assert used - exposed(web) == set()


def test_the_alert_rules_use_only_names_that_exist(web: WebChild) -> None:
    fill(web)
    rules = yaml.safe_load((CONF / "prometheus/kici-worker.rules.yaml").read_text())
    used = {name for rule in rules["groups"][0]["rules"] for name in NAME.findall(rule["expr"])}
    assert len(used) > 8
    assert used - exposed(web) == set()


#: ``scalerType`` and ``machinePool`` are the reference's own label names (worker surface 6.2):
#: dashboards carry over, so promtool's taste yields. Nothing else may be said.
STYLE = re.compile(
    rb"kici_orch_scaler_(cpus|memory_bytes)_used label names should be written in 'snake_case'"
    rb" not 'camelCase'"
)


def promtool(*words: str, text: bytes = b"") -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (make test-all installs it)")
    done = subprocess.run(["promtool", *words], input=text, capture_output=True, timeout=60)
    said = [line for line in done.stderr.splitlines() if not STYLE.fullmatch(line.strip())]
    assert said == [], done.stdout + done.stderr
    assert done.returncode == 0 or done.stderr, done.stdout


@pytest.mark.debian
def test_promtool_accepts_the_metrics(web: WebChild) -> None:
    fill(web)
    promtool("check", "metrics", text=web.request("GET", "/metrics")[2])


@pytest.mark.debian
def test_promtool_accepts_the_rules() -> None:
    promtool("check", "rules", str(CONF / "prometheus/kici-worker.rules.yaml"))


def test_a_histogram_counts_at_and_below_its_bounds() -> None:
    seen = Histogram((1.0, 5.0))
    for value in (0.5, 1.0, 3.0, 99.0):
        seen.observe(value)
    assert seen.buckets() == [("1.0", 2), ("5.0", 3), ("+Inf", 4)]
    assert seen.total == 103.5


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("Worker is draining", "draining"),
        ("No scaler serves the labels gpu", "labels"),
        ("Queue is full", "capacity"),
        ("Failed to spawn: x", "unhealthy"),
        ("anything a coordinator made up", "other"),
    ],
)
def test_reasons_are_few_kinds(reason: str, kind: str) -> None:
    assert refusal_kind(reason) == kind


def test_agents_that_never_end_starting_are_bounded() -> None:
    tally = Tally()
    for number in range(1500):
        tally.take(agent(1, "starting", 0.0, str(number)))
    assert len(tally._starting) == 1000
