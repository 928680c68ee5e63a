"""Every message of the agent protocol's table is answered, used or taken (agent spec 2.0)."""

import typing

import pytest

from kici.contracts.wire.agent import FromAgent
from kici.protocol.agent_answers import _ANSWERS, DROPPED

#: Types that agents send, as the index lists them, by what a worker does with them.
ANSWERED = [
    "job.concurrency.report",
    "event.emit",
    "agent.api.request",
    "cache.upload.request",
    "cache.user.restore.request",
    "cache.user.save.request",
    "provenance.upload.request",
    "step.approval-request",
    "artifacts.upload.request",
    "artifacts.upload.complete",
    "artifacts.download.request",
    "scaler.claim-credentials",
]
TAKEN = [
    "run.event",
    "job.context",
    "cache.upload.complete",
    "cache.user.save.complete",
    "provenance.upload.complete",
    "provenance.upload.defer",
]
USED = [
    "auth.request",
    "agent.register",
    "heartbeat",
    "config.ack",
    "agent.status",
    "agent.metrics",
    "agent.log",
    "job.ack",
    "job.reject",
    "job.status",
    "step.status",
    "log.chunk",
    "job.heartbeat",
    "fleet.bundle.chunk",
    "fleet.bundle.error",
]


def tag(kind):
    return kind.__struct_config__.tag


# A62, A64, A70
def test_no_message_of_the_table_is_unknown():
    known = {tag(kind) for kind in typing.get_args(FromAgent)}
    assert known == {*ANSWERED, *TAKEN, *USED}


@pytest.mark.parametrize("name", ANSWERED)
def test_each_request_has_an_answer(name):
    assert name in {tag(kind) for kind in _ANSWERS}


def test_what_is_taken_without_looking_is_what_the_table_says():
    assert sorted(tag(kind) for kind in DROPPED) == sorted(TAKEN)
