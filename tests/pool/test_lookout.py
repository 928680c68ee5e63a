"""What the lookout tells the core of backends that fall ill, recover and hide agents."""

import contextlib

import gevent
import pytest

from kici.pool import lookout
from kici.pool.events import AgentsFound, AgentsSought, HealthChanged
from kici.pool.lookout import Lookout
from kici.pool.scalers.base import FoundAgent


class Backend:
    """Steered by the test."""

    reason = "engine is down"
    agents = ()

    def health(self):
        return self.reason

    def found(self):
        return [
            FoundAgent(agent_id=name, job_id=None, run_id=None, label_set_labels=())
            for name in self.agents
        ]


class Bench:
    def __init__(self):
        self.told, self.known, self.backend = [], set(), Backend()
        self.backends = {"s1": self.backend}
        self.lookout = Lookout(self.backends, self._strangers, self.told.append)

    def _strangers(self, _name, found):
        return [one for one in found if one.agent_id not in self.known]

    def until(self, *events):
        with gevent.Timeout(5, AssertionError(f"{events} expected, told: {self.told}")):
            while not set(map(repr, events)) <= set(map(repr, self.told)):
                gevent.sleep(0.005)

    def found(self):
        return [one for one in self.told if isinstance(one, AgentsFound)]


def healthy(reason=""):
    return HealthChanged("s1", reason)


def stranger(name):
    return FoundAgent(agent_id=name, job_id=None, run_id=None, label_set_labels=())


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.setattr(lookout, "UNWELL_EVERY_S", 0.02)
    made = Bench()
    made.lookout.expect(["s1"])
    made.lookout.first_look("s1", made.backend)
    watching = gevent.spawn(made.lookout.watch)
    yield made
    with contextlib.suppress(gevent.GreenletExit):
        watching.kill()


# S111
def test_agents_of_a_backend_that_recovers_are_found_before_anything_is_started(bench):
    bench.until(healthy("engine is down"), AgentsFound("s1", []))
    bench.backend.agents = ("a1",)
    bench.backend.reason = ""
    bench.until(AgentsFound("s1", [stranger("a1")]))
    assert bench.told[-3:] == [
        AgentsSought(["s1"]),
        healthy(),
        AgentsFound("s1", [stranger("a1")]),
    ]


def test_a_failed_launch_shows_an_ill_backend_at_once(bench):
    bench.backend.reason = ""
    bench.until(healthy())
    bench.backend.reason = "engine is gone"
    bench.lookout.look_sooner()
    bench.until(healthy("engine is gone"))


# S111
def test_an_agent_that_nobody_knows_is_told_when_it_is_seen_twice(bench):
    bench.until(healthy("engine is down"))
    bench.known.add("mine")
    bench.backend.agents = ("mine", "hidden")
    n_told = len(bench.found())
    bench.lookout._look_again("s1", bench.backend)
    assert len(bench.found()) == n_told  # it may be ending just now
    bench.lookout._look_again("s1", bench.backend)
    assert bench.found()[-1].agents == [stranger("hidden")]


def test_a_backend_that_was_replaced_meanwhile_tells_nothing(bench):
    bench.until(healthy("engine is down"))
    bench.backends["s1"] = Backend()
    told = len(bench.told)
    bench.lookout._look("s1", bench.backend)
    assert len(bench.told) == told
