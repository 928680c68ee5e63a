"""Recorded coordinators (0.1.24 and 0.9.1) against our worker side: every recorded frame is
understood, and what we answer has only types and keys that a recorded worker's answer had."""

import json
from collections import defaultdict
from pathlib import Path

import pytest

from kici.protocol.machine import Close
from kici.protocol.peer_actions import Joined, Offered, Receipted, Refused
from tests.protocol.test_peer_session import Pair

DIRECTORY = Path(__file__).parent.parent / "transcripts"
FILES = sorted(path for path in DIRECTORY.glob("*.jsonl") if not path.name.startswith("agent"))
IGNORED = ("raft.",)
#: Keys we send that the recordings do not show, with the section that asks for them.
ADDED = {
    "peer.heartbeat": {"clusterSettingsVersion"},  # 4.4, reported once settings are known
    "peer.clusterSettings.request": {"type", "messageId"},  # 4.21
}


def recorded(path):
    """The messages of a file, by connection."""
    connections = defaultdict(list)
    for line in path.read_text().splitlines():
        entry = json.loads(line)
        if "msg" in entry:
            connections[entry["conn"]].append((entry["dir"], entry["msg"]))
    return connections


def shapes():
    """Type -> every key that a recorded worker ever sent with it."""
    keys = defaultdict(set)
    for path in FILES:
        for messages in recorded(path).values():
            for direction, message in messages:
                if direction == "worker->coordinator":
                    keys[message["type"]].update(message)
    for kind, more in ADDED.items():
        keys[kind] |= more
    return keys


def replay(messages):
    """Feed what the coordinator said; returns the pair, our messages and the actions."""
    pair, sent, actions = Pair(), [], []
    said = [message for direction, message in messages if direction == "coordinator->worker"]
    token = next((m["token"] for _, m in messages if m.get("token")), None)
    if any(message["type"] == "peer.hello" for message in said):
        hello = next(message for message in said if message["type"] == "peer.hello")
        extra = {k: v for k, v in hello.items() if k not in ("ephemeralPublicKey", "nonce")}
        pair.greet(**extra)
        sent.append(pair.authenticate(*(("token", token) if token else ())))
        said = [message for message in said if message["type"] != "peer.hello"]
    else:
        pair.join("0.1.24")
    for number, message in enumerate(said):
        new = pair.say(message, float(number) / 10)
        actions += new
        sent += pair.sent(new)
    return pair, sent, actions


CONNECTIONS = [
    pytest.param(messages, id=f"{path.stem}-{number}")
    for path in FILES
    for number, messages in recorded(path).items()
    if any(direction == "coordinator->worker" for direction, _ in messages)
]


# P29, P68, P69
@pytest.mark.parametrize("messages", CONNECTIONS)
def test_a_recorded_coordinator_is_understood_and_answered_in_shape(messages):
    pair, sent, actions = replay(messages)
    said = [message for direction, message in messages if direction == "coordinator->worker"]
    noise = sum(message["type"].startswith(IGNORED) for message in said)
    refused = any(message.get("accepted") is False for message in said)
    if not refused:
        assert pair.link.counters["invalid_messages"] == noise
        assert not any(isinstance(action, Close) for action in actions)
    allowed = shapes()
    for message in sent:
        assert message["type"] in allowed, message
        assert message.keys() <= allowed[message["type"]], message


@pytest.mark.parametrize("messages", CONNECTIONS)
def test_every_recorded_offer_receipt_and_verdict_leads_to_its_action(messages):
    _pair, _sent, actions = replay(messages)
    said = [message for direction, message in messages if direction == "coordinator->worker"]
    offers = [message["messageId"] for message in said if message["type"] == "job.reroute"]
    assert [action.message_id for action in actions if isinstance(action, Offered)] == offers
    acks = [(m["runId"], m["jobId"]) for m in said if m["type"] == "job.progress.ack"]
    receipts = [(a.run_id, a.job_id) for a in actions if isinstance(a, Receipted)]
    assert receipts == acks
    verdicts = [message["accepted"] for message in said if message["type"] == "peer.auth.response"]
    outcomes = [isinstance(a, Joined) for a in actions if isinstance(a, Joined | Refused)]
    assert outcomes == verdicts


def test_the_recordings_hold_what_these_tests_are_about():
    types = {m["type"] for c in CONNECTIONS for d, m in c.values[0] if d.startswith("coord")}
    assert {"peer.hello", "job.reroute", "job.progress.ack", "peer.job.cancel"} <= types
