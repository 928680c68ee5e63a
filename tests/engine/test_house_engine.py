"""An engine that is not there, or dies: jobs wait or end, nothing is left when it is back."""

import pytest

from tests.support.engine_house import WAIT_S, EngineHouse, engine_house
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]
IN_NAMESPACE = True


@pytest.fixture
def engine_back(engine):
    """Whatever a test does to the engine, the next one finds it running."""
    yield engine
    if not engine.answers():
        engine.socket.unlink(missing_ok=True)
        engine.start()


def unhealthy(house):
    return any(not one["healthy"] for one in house.status().get("scalers", ()))


# S98 S99
def test_an_engine_that_comes_up_late_gets_the_job_that_waited(engine_back, tmp_path):
    engine_back.kill()
    house = EngineHouse(tmp_path, engine_back)
    try:
        house.start_coordinator()
        house.start_worker(house.join_token(), connected=False)
        wait_for(lambda: unhealthy(house), "the worker says that the engine is away", WAIT_S)
        job = house.submit("patient", "echo at last")
        assert house.job(job)["state"] == "queued"
        engine_back.start()
        assert house.ended(job)["state"] == "success"
        house.wait_clean()
    finally:
        house.close()


# S79 S111
def test_an_engine_that_is_killed_under_a_job_ends_it_truthfully(engine_back, tmp_path):
    """Podman's containers live on without it. Docker ends its own when it comes back, and the
    agent has the time to say so."""
    with engine_house(tmp_path, engine_back) as house:
        job = house.submit("under way", house.wait_step("go"))
        house.wait_log(job, "waiting", WAIT_S)
        engine_back.kill()
        wait_for(lambda: unhealthy(house), "the worker says that the engine is away", WAIT_S)
        engine_back.start()
        wait_for(lambda: not unhealthy(house), "the worker finds the engine again", WAIT_S)
        after = house.submit("after", "true")
        if engine_back.runtime == "podman":
            house.flag("go")
            assert house.ended(job)["state"] == "success"
            assert house.log(job, 0) == ["waiting", "go"]
        else:
            row = house.ended(job)
            assert row["state"] == "failed"
            assert row["reason"] == "agent was stopped"
        assert house.ended(after)["state"] == "success"
