"""Views for web: newest of each kind, few of them, and never in the way."""

import gevent
import pytest

from kici.contracts.link import JobKey
from kici.contracts.link.views import AgentView, JobView
from kici.pool.showing import Showing


class Web:
    """Takes views while ``reads`` is true."""

    def __init__(self):
        self.reads, self.got = True, []

    def take(self, view):
        if self.reads:
            self.got.append(view.state)
        return self.reads


@pytest.fixture
def web():
    return Web()


@pytest.fixture
def showing(web):
    return Showing(web.take)


def job(state, name="j1"):
    return JobView(
        rev=1, key=JobKey(owner="o", run_id="r", job_id=name), job_name="", workflow_name="",
        repo_url="", ref="", sha="", request_id=None, state=state, outcome=None, error=None,
        agent_id=None, scaler_name=None, attempt=1, accepted_at=0, queue_deadline_at=None,
        started_at=None, completed_at=None, steps=(), n_log_lines=0, labels=(),
    )  # fmt: skip


def agent(state, name="a1"):
    return AgentView(
        rev=1, agent_id=name, state=state, since=0, scaler_name=None, labels=(), active_jobs=0,
        max_concurrency=1, version=None, hostname=None, reason="",
    )  # fmt: skip


def wait_for(web, count):
    with gevent.Timeout(5):
        while len(web.got) < count:
            gevent.sleep(0.005)


def test_quick_changes_of_one_job_become_one_view(showing, web):
    for state in ("queued", "dispatched", "acknowledged", "running"):
        showing.show(job(state))
    assert web.got == []
    wait_for(web, 1)
    assert web.got == ["running"]


def test_an_end_is_told_at_once_and_nothing_older_after_it(showing, web):
    showing.show(job("running"))
    showing.show(job("finished"))
    showing.show(job("queued", "j2"))
    assert web.got == ["finished"]
    wait_for(web, 2)
    assert web.got == ["finished", "queued"]


def test_what_web_counts_of_agents_is_told_at_once(showing, web):
    for state in ("requested", "starting", "gone"):
        showing.show(agent(state))
    assert web.got == ["requested", "starting", "gone"]


def test_a_web_that_does_not_read_gets_the_newest_when_it_reads_again(showing, web):
    web.reads = False
    showing.show(job("finished"))
    showing.show(agent("requested"))
    showing.show(agent("starting"))
    gevent.sleep(0.01)
    web.reads = True
    wait_for(web, 2)
    assert web.got == ["finished", "starting"]
