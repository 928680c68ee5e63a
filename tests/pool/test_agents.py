"""The registry's order, and that placing a job does not ask every agent."""

from kici.contracts.states import AgentState
from kici.pool import agents
from kici.pool.agents import Agent, Registry
from kici.pool.seam import TokenGrant
from tests.support.pool_world import World, scaler


def agent(name):
    return Agent(agent_id=name, state=AgentState.IDLE, since=0.0, since_wall=0.0)


def test_agents_come_in_the_order_of_their_ids_whatever_comes_and_goes():
    registry = Registry()
    made = {name: agent(name) for name in ("b", "d", "a", "c")}
    for one in made.values():
        registry.add(one)
    registry.add(made["d"])
    assert [one.agent_id for one in registry.by_id()] == ["a", "b", "c", "d"]
    assert [one.agent_id for one in registry] == ["b", "d", "a", "c"]
    registry.drop(made["b"])
    registry.drop(made["b"])
    assert [one.agent_id for one in registry.by_id()] == ["a", "c", "d"]


def test_a_job_asks_few_of_many_idle_agents_for_their_labels(monkeypatch):
    world = World(scaler(max_agents=1))
    for number in range(100):
        grant = TokenGrant(token_id="t", kind="static")
        world.register(f"a{number:03}", ("linux",), grant=grant)
    asked = []
    serves = agents.serves

    def counted(*args):
        asked.append(args)
        return serves(*args)

    monkeypatch.setattr(agents, "serves", counted)
    world.offer()
    assert [where for where, _ in world.dispatches()] == ["c-a000"]
    assert len(asked) <= 4
