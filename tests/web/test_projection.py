"""The reader's rule: highest revision of the owner's current start, and no ghosts."""

from kici.contracts.link.lifecycle import DrainState, Hello
from kici.contracts.link.views import AgentView, JobView, PeerState, PoolCapacity
from kici.web.projection import MAX_ROWS, STALE_KEEP_S, Projection
from tests.support.web_child import capacity, finished, job, peer_state

HELLO = Hello(name="pool", pid=1)


def agent(rev: int, state: str = "idle", agent_id: str = "a") -> AgentView:
    return AgentView(
        rev=rev,
        agent_id=agent_id,
        state=state,
        since=0.0,
        scaler_name=None,
        labels=(),
        active_jobs=0,
        max_concurrency=1,
        version=None,
        hostname=None,
        reason="",
    )


def test_the_highest_revision_stays() -> None:
    seen = Projection()
    assert seen.apply("peer", "b1", peer_state(2, "connected"), 0)
    assert not seen.apply("peer", "b1", peer_state(1, "connecting"), 0)
    assert [row.state for row in seen.all(PeerState, 0)] == ["connected"]


def test_a_snapshot_with_the_same_revision_is_taken() -> None:
    seen = Projection()
    seen.apply("peer", "b1", peer_state(2, "connected"), 0)
    assert seen.apply("peer", "b1", peer_state(2, "connected"), 5)
    assert [fact.at for fact in seen.facts(PeerState, 5)] == [5]


def test_a_new_start_begins_at_any_revision() -> None:
    seen = Projection()
    seen.apply("pool", "b1", HELLO, 0)
    seen.apply("pool", "b1", capacity(9), 0)
    seen.apply("pool", "b2", HELLO, 1)
    assert seen.apply("pool", "b2", capacity(1, n_queued_jobs=7), 1)
    found = seen.one(PoolCapacity)
    assert found is not None
    assert found.n_queued_jobs == 7


def test_messages_of_an_earlier_start_are_dropped() -> None:
    seen = Projection()
    seen.apply("pool", "b2", HELLO, 0)
    assert not seen.apply("pool", "b1", capacity(9), 1)
    assert seen.one(PoolCapacity) is None


def test_the_first_start_heard_of_needs_no_hello() -> None:
    seen = Projection()  # a restarted web: the greeting went to its predecessor
    assert seen.apply("pool", "b1", capacity(9), 1)


def test_rows_of_a_restarted_owner_are_stale_then_gone() -> None:
    seen = Projection()
    seen.apply("pool", "b1", job(1, "j"), 0)
    seen.apply("pool", "b2", HELLO, 10)
    (fact,) = seen.facts(JobView, 11)
    assert seen.is_stale(fact)
    assert seen.all(JobView, 10 + STALE_KEEP_S + 1) == []


def test_a_snapshot_of_the_new_start_replaces_the_stale_row() -> None:
    seen = Projection()
    seen.apply("pool", "b1", job(5, "j"), 0)
    seen.apply("pool", "b2", HELLO, 10)
    seen.apply("pool", "b2", job(1, "j", "recovering"), 11)
    assert [row.state for row in seen.all(JobView, 100)] == ["recovering"]


def test_gone_agents_and_finished_jobs_leave() -> None:
    seen = Projection()
    seen.apply("pool", "b", agent(1), 0)
    seen.apply("pool", "b", agent(2, "gone"), 0)
    seen.apply("pool", "b", job(1, "j"), 0)
    seen.apply("pool", "b", finished(2, "j"), 0)
    assert seen.all(AgentView, 0) == []
    assert seen.all(JobView, 0) == []


def test_rows_are_bounded_and_the_oldest_goes_first() -> None:
    seen = Projection()
    for number in range(MAX_ROWS + 1):
        seen.apply("pool", "b", agent(1, agent_id=str(number)), 0)
    ids = {row.agent_id for row in seen.all(AgentView, 0)}
    assert len(ids) == MAX_ROWS
    assert "0" not in ids


def test_every_change_is_seen_in_the_version() -> None:
    seen = Projection()
    drain = DrainState(rev=1, draining=False, stopping=False, reason="")
    before = seen.version
    seen.apply("supervisor", "b", drain, 0)
    assert seen.version > before


def test_each_owner_has_an_age_and_is_stale_until_it_speaks_anew() -> None:
    seen = Projection()
    seen.apply("pool", "b1", capacity(1), 5)
    (source,) = seen.sources(6)
    assert (source.booted_at, source.heard_at, source.is_stale) == (5, 5, False)
    seen.apply("pool", "b2", HELLO, 10)
    assert [source.is_stale for source in seen.sources(11)] == [True]
    assert [source.is_stale for source in seen.sources(10 + STALE_KEEP_S + 1)] == [False]
    seen.apply("pool", "b2", capacity(1), 12)
    (source,) = seen.sources(12)
    assert (source.booted_at, source.heard_at, source.is_stale) == (10, 12, False)
