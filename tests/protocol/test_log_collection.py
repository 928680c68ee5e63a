"""Which answers a wish for logs gets, and when (peer spec 4.18, 4.19)."""

import base64
import json

import msgspec
import pytest

from kici.contracts.wire.peer.fleet import PeerLogsCollectError, PeerLogsCollectRequest
from kici.protocol import log_collection
from kici.protocol.bundle_pieces import BundleFailed, BundlePieces
from kici.protocol.log_collection import Collect, LogCollection


def request(message_id="m", hours=4, selection='{"all":true}'):
    return PeerLogsCollectRequest(
        message_id=message_id,
        log_window_hours=hours,
        include_coordinator_mesh=False,
        selection=msgspec.Raw(selection.encode()),
    )


@pytest.fixture
def begun():
    collection = LogCollection()
    assert isinstance(collection.asked(request(), 0.0), Collect)
    return collection


@pytest.mark.parametrize(
    ("selection", "agent_ids"),
    [
        ('{"all":true}', None),
        ('{"all":true,"agentIds":["a"],"workerInstanceIds":["w"]}', None),
        ('{"all":false}', ()),
        ('{"all":false,"agentIds":["a","b","a"],"other":1}', ("a", "b")),
    ],
)
def test_a_selection_says_which_agents_are_asked(selection, agent_ids):
    asked = LogCollection().asked(request(selection=selection), 0.0)
    assert isinstance(asked, Collect)
    assert asked.agent_ids == agent_ids


# P66
@pytest.mark.parametrize(
    "selection",
    [
        *("{}", "[]", "null", '{"all":1}'),
        *('{"all":false,"agentIds":"a"}', '{"all":false,"agentIds":%s}'),
    ],
)
def test_a_selection_that_is_not_understood_is_answered_with_an_error(selection):
    many = selection.replace("%s", json.dumps([f"a{n}" for n in range(1001)]))
    collection = LogCollection()
    refused = collection.asked(request(selection=many), 0.0)
    assert isinstance(refused, PeerLogsCollectError)
    assert refused.message_id == "m"
    assert isinstance(collection.asked(request(), 1.0), Collect), "nothing runs"


# P66
@pytest.mark.parametrize(
    ("message_id", "agent_id"), [("m" * 257, "a"), ("m", "a" * 257)], ids=["message", "agent"]
)
def test_names_that_would_be_repeated_for_ever_are_refused(message_id, agent_id):
    selection = json.dumps({"all": False, "agentIds": [agent_id]})
    refused = LogCollection().asked(request(message_id, selection=selection), 0.0)
    assert (refused.message_id, refused.message) == (message_id, log_collection.TOO_LONG)


@pytest.mark.parametrize(
    ("hours", "window"),
    [(-3, 0.0), (0.5, 0.5), (10**12, 24 * 366.0), (10**400, 24 * 366.0)],
)
def test_the_window_is_bounded(hours, window):
    asked = LogCollection().asked(request(hours=hours), 0.0)
    assert asked.hours == window


# P66
def test_a_second_collection_gets_an_error_while_one_runs(begun):
    assert begun.asked(request("m"), 1.0) is None, "the same question again changes nothing"
    refused = begun.asked(request("other"), 1.0)
    assert (refused.message_id, refused.message) == ("other", log_collection.BUSY)
    assert begun.piece("m", b"x", is_last=True)
    assert isinstance(begun.asked(request("other"), 2.0), Collect)


# P66
def test_chunks_count_from_zero_and_the_last_is_flagged(begun):
    chunks = [
        json.loads(begun.piece("m", data, is_last=last))
        for data, last in ((b"ab", False), (b"cd", False), (b"e", True))
    ]
    assert [chunk["seq"] for chunk in chunks] == [0, 1, 2]
    assert [chunk["isLast"] for chunk in chunks] == [False, False, True]
    assert b"".join(base64.b64decode(chunk["dataB64"]) for chunk in chunks) == b"abcde"
    assert begun.piece("m", b"more", is_last=False) is None


# P66
def test_what_takes_too_long_ends_in_one_error_within_45_s(begun):
    begun.piece("m", b"ab", is_last=False)
    assert begun.deadline < 45
    assert begun.tick(begun.deadline - 0.1) is None
    late = begun.tick(begun.deadline)
    assert (late.message_id, late.message) == ("m", log_collection.LATE)
    assert begun.tick(1000.0) is None
    assert begun.piece("m", b"cd", is_last=True) is None
    assert begun.failed("m", "why") is None


def test_a_failure_is_one_error_with_its_reason(begun):
    assert json.loads(begun.failed("m", "disk full" * 1000))["message"].startswith("disk full")
    assert begun.failed("m", "again") is None
    assert begun.failed("other", "never ran") is None


# A84 A85 C55
@pytest.mark.parametrize(
    ("pieces", "reason"),
    [
        ([(1, "YQ==")], "chunk 1"),
        ([(0, "YQ=="), (0, "YQ==")], "chunk 0"),
        ([(0, "%%")], "base64"),
        ([(0, "YQ=")], "base64"),
        ([(0, "\u00e9" * 8)], "base64"),
        ([(0, "YWFhYWFhYWFhYWFh")], "above 10"),
        ([(0, "YWFhYWFh"), (1, "YWFhYWFh")], "above 10"),
        ([(0, "YQ==" * 100)], "above 10"),
    ],
)
def test_pieces_out_of_order_or_too_large_are_refused(pieces, reason):
    received = BundlePieces(10)
    for seq, data in pieces[:-1]:
        received.take(seq, data)
    with pytest.raises(BundleFailed, match=reason):
        received.take(*pieces[-1])
