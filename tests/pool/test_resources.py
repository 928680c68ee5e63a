"""A job's own resources: what can be read, and what no machine has."""

import pytest

from kici.config.units import MAX_MEMORY_BYTES
from kici.contracts.link.jobs import JobDeclined
from kici.pool.resources import BadResources, read_resources
from tests.support.pool_world import World, scaler


def read(**spec):
    return read_resources({"requests": spec}).requests


def test_cores_and_memory_are_read_in_cores_and_bytes():
    assert read(cpus=0.5, memory="512m").cpus == 0.5
    assert read(memory="1.5 K").memory_bytes == 1536
    assert read(memory=f"{2**20}g").memory_bytes == MAX_MEMORY_BYTES


# S54
@pytest.mark.parametrize(
    "spec",
    [
        {"cpus": 10**400}, {"cpus": 1e300}, {"cpus": -1}, {"cpus": True}, {"cpus": "2"},
        {"memory": "9" * 400 + "g"}, {"memory": "99999999999999g"}, {"memory": "2"},
        {"memory": 512},
    ],
)  # fmt: skip
def test_what_no_machine_has_refuses_the_offer_and_breaks_nothing(spec):
    with pytest.raises(BadResources):
        read(**spec)
    world = World(scaler())
    world.offer(jobConfig={"resources": {"requests": spec}})
    (answer,) = world.answers()
    assert isinstance(answer, JobDeclined)
    assert answer.reason.startswith("Invalid job: ")
