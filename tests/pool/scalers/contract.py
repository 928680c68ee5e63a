"""The contract of pool/scalers/base.py as tests that every backend must pass.

A backend's test module subclasses ``BackendContract`` and gives the fixture ``bench``: an
object with ``make(owner="me", held=nobody) -> backend`` (same state directory each time),
``spec(agent_id, **behaviour) -> LaunchSpec`` and ``events``, the list that its ``report``
fills. ``behaviour`` is one of ``fail="why"`` (never starts), ``exit_after=seconds``; without
one the agent lives until it is reaped.
"""

import gevent
import pytest

from kici.pool.scalers.base import KILL_S, CleaningBudget, EventKind
from tests.support.waiting import until

FINAL = (EventKind.FAILED, EventKind.EXITED)
GRACE_S = 1.0


class BackendContract:
    """Rules 1-7, and health."""

    def kinds(self, bench, agent_id):
        known = (EventKind.STARTED, *FINAL)
        return [one.kind for one in bench.events if one.agent_id == agent_id and one.kind in known]

    def started(self, bench, agent_id="scaler-x-00000001", **behaviour):
        backend = bench.make()
        backend.launch(bench.spec(agent_id, **behaviour))
        until(lambda: self.kinds(bench, agent_id))
        return backend, agent_id

    def test_healthy_backend_has_no_complaint(self, bench):
        assert bench.make().health() == ""

    def test_launch_reports_started_once_and_reap_ends_it(self, bench):
        backend, agent = self.started(bench)
        assert self.kinds(bench, agent) == [EventKind.STARTED]
        backend.reap(agent, GRACE_S)
        until(lambda: len(self.kinds(bench, agent)) == 2, GRACE_S + KILL_S + 5)
        assert self.kinds(bench, agent) == [EventKind.STARTED, EventKind.EXITED]
        assert not bench.make().found()

    def test_failed_launch_reports_failed_once_with_the_reason(self, bench):
        _, agent = self.started(bench, fail="no such thing")
        gevent.sleep(0.05)
        assert self.kinds(bench, agent) == [EventKind.FAILED]
        assert bench.events[-1].detail

    def test_agent_that_ends_by_itself_is_reported_once(self, bench):
        _, agent = self.started(bench, exit_after=0.05)
        until(lambda: EventKind.EXITED in self.kinds(bench, agent))
        assert self.kinds(bench, agent) == [EventKind.STARTED, EventKind.EXITED]

    def test_reap_of_an_unknown_agent_is_harmless(self, bench):
        bench.make().reap("scaler-x-ffffffff", GRACE_S)
        gevent.sleep(0.05)
        assert not bench.events

    def test_second_reap_reports_nothing_more(self, bench):
        backend, agent = self.started(bench)
        backend.reap(agent, GRACE_S)
        backend.reap(agent, GRACE_S)
        until(lambda: len(self.kinds(bench, agent)) == 2, GRACE_S + KILL_S + 5)
        backend.reap(agent, GRACE_S)
        gevent.sleep(0.05)
        assert len(self.kinds(bench, agent)) == 2

    def test_agent_is_found_after_a_restart_adopted_and_reaped(self, bench):
        backend, agent = self.started(bench)
        backend.close()
        successor = bench.make()
        [found] = successor.found()
        assert (found.agent_id, found.job_id, found.run_id) == (agent, "j1", "r1")
        successor.adopt(agent)
        successor.reap(agent, GRACE_S)
        until(lambda: EventKind.EXITED in self.kinds(bench, agent), GRACE_S + KILL_S + 5)
        assert not bench.make().found()

    def test_adopting_an_agent_that_is_gone_meanwhile_is_reported_as_its_end(self, bench):
        bench.make().adopt("scaler-x-ffffffff")
        until(lambda: bench.events)
        gevent.sleep(0.05)
        (end,) = bench.events
        assert (end.agent_id, end.kind) == ("scaler-x-ffffffff", EventKind.EXITED)
        assert "gone" in end.detail

    def test_agents_of_another_worker_are_neither_found_nor_touched(self, bench):
        backend, agent = self.started(bench)
        stranger = bench.make(owner="another")
        assert not stranger.found()
        stranger.reap(agent, GRACE_S)
        gevent.sleep(0.05)
        assert self.kinds(bench, agent) == [EventKind.STARTED]
        backend.reap(agent, GRACE_S)
        until(lambda: len(self.kinds(bench, agent)) == 2, GRACE_S + KILL_S + 5)

    def test_agents_that_another_object_of_this_process_holds_are_not_found(self, bench):
        backend, agent = self.started(bench)
        assert not bench.make(held=lambda one: one == agent).found()
        assert [one.agent_id for one in bench.make(held=lambda one: False).found()] == [agent]
        backend.reap(agent, GRACE_S)
        until(lambda: len(self.kinds(bench, agent)) == 2, GRACE_S + KILL_S + 5)

    @pytest.mark.parametrize("owner", ["me", "another"])
    def test_cleaning_leaves_a_living_agent_alone(self, bench, owner):
        backend, agent = self.started(bench)
        everything = CleaningBudget(
            images_max_age_s=1e-6, images_max_bytes=1, agents_max_age_s=1e-6
        )
        bench.make(owner=owner).clean(everything)
        assert self.kinds(bench, agent) == [EventKind.STARTED]
        assert [one.agent_id for one in bench.make().found()] == [agent]
        backend.reap(agent, GRACE_S)
        until(lambda: len(self.kinds(bench, agent)) == 2, GRACE_S + KILL_S + 5)

    def test_close_ends_no_agent(self, bench):
        backend, agent = self.started(bench)
        backend.close()
        gevent.sleep(0.05)
        assert self.kinds(bench, agent) == [EventKind.STARTED]
        successor = bench.make()
        successor.adopt(agent)
        successor.reap(agent, GRACE_S)
        until(lambda: len(self.kinds(bench, agent)) == 2, GRACE_S + KILL_S + 5)
