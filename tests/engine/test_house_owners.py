"""Two workers on one engine: each sees its own containers only, whatever dies."""

import contextlib
import json

import pytest

from tests.support.engine_house import WAIT_S, engine_house
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]
IN_NAMESPACE = True
#: What nobody claims for so long after a start is lost; living agents come within seconds.
_GRACE = {"KICI_ADOPT_GRACE": "20s"}


@pytest.fixture
def two(engine, tmp_path):
    """Scalers of the same name, so that the owner alone tells them apart."""
    with contextlib.ExitStack() as stack:
        houses = []
        for name in ("first", "second"):
            root = tmp_path / name
            root.mkdir()
            houses.append(stack.enter_context(engine_house(root, engine, name=name, env=_GRACE)))
        yield houses


def running(house, name):
    job = house.submit(name, house.wait_step("go"))
    house.wait_log(job, "waiting", WAIT_S)
    return job


# S111
def test_a_killed_worker_gets_its_container_back_and_touches_no_other(two):
    first, second = two
    kept, lost, theirs = running(first, "kept"), running(first, "lost"), running(second, "theirs")
    (foreign,) = [one["Id"] for one in second.containers()]
    leftover = first.container_of(lost)
    first.kill_worker()
    with first.client() as client:
        client.kill(leftover)
    first.start_worker()
    wait_for(lambda: len(first.containers()) == 1, "the leftover is reaped", WAIT_S)
    assert [one["Id"] for one in first.containers()] == [first.container_of(kept)]
    first.flag("go")
    assert first.ended(kept)["state"] == "success"
    assert first.log(kept, 0) == ["waiting", "go"]
    assert [one["Id"] for one in second.containers()] == [foreign]
    second.flag("go")
    assert second.ended(theirs)["state"] == "success"
    assert first.wait_end(lost, 150)["state"] == "failed"


# S111
def test_containers_of_a_scaler_removed_while_the_worker_was_down_end_or_finish(engine, tmp_path):
    with engine_house(tmp_path, engine, env=_GRACE) as house:
        kept, lost = running(house, "kept"), running(house, "lost")
        leftover = house.container_of(lost)
        house.kill_worker()
        with house.client() as client:
            client.kill(leftover)
        house.write_scalers(json.dumps({"version": 1, "scalers": []}))
        house.start_worker(connected=False)
        wait_for(lambda: len(house.containers()) == 1, "the leftover is reaped", WAIT_S)
        assert house.ended(lost)["state"] == "failed"
        house.flag("go")
        assert house.ended(kept)["state"] == "success"
        assert house.log(kept, 0) == ["waiting", "go"]
        house.wait_clean()
