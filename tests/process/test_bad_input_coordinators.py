"""Coordinators that answer wrongly, babble or flood, against a whole real worker (issue 2)."""

import contextlib
import json
import random
import socket
import ssl
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.support.attack import CREDENTIAL, TOKEN, WAIT_S, Vitals, besieged, mutated, reroute
from tests.support.house import House
from tests.support.scripted_coordinator import ScriptedCoordinator
from tests.support.waiting import wait_for

TRANSCRIPTS = Path(__file__).parents[1] / "transcripts"
FAST = {"KICI_CLUSTER_PEER_MAX_RECONNECT_DELAY_MS": "1000"}


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    env = FAST | {"KICI_QUEUE_LIMIT": "5", "KICI_QUEUE_TIMEOUT": "3s"}
    with besieged(tmp_path_factory.mktemp("siege"), env=env) as siege:
        yield siege


@pytest.fixture
def siege(worker):
    yield worker
    worker.unharmed()


@pytest.fixture
def lonely(tmp_path):
    """A worker that has not joined yet: ``(house, coordinator)``."""
    with ScriptedCoordinator() as coordinator:
        url = {"KICI_CLUSTER_COORDINATOR_URL": coordinator.url}
        house = House(tmp_path, env=url | FAST)
        try:
            house.start_worker(TOKEN, connected=False)
            yield house, coordinator
            assert TOKEN not in house.worker.log.read_text()
        finally:
            house.close()


def said(house, *words):
    """The first log line that holds all ``words``."""
    return wait_for(
        lambda: next(
            (row for row in house.worker.lines() if all(w in json.dumps(row) for w in words)), None
        ),
        f"a line with {words}",
        WAIT_S,
    )


# --- before the link stands ---------------------------------------------------------------

ANSWERS = {
    "a page": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "a refusal": b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
    "a redirection": b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n",
    "no HTTP": b"SSH-2.0-OpenSSH_9.9\r\n",
    "an endless head": b"HTTP/1.1 101 X\r\n" + b"A: b\r\n" * 100_000,
    "a wrong accept": b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: AAAA\r\n\r\n",
    "nothing": b"",
}


# P9 P14
@pytest.mark.parametrize("answer", list(ANSWERS))
def test_an_answer_other_than_101_is_told_and_dialled_again(lonely, answer):
    house, coordinator = lonely
    vitals = None
    for _ in range(3):
        raw = coordinator.accept_raw(WAIT_S)
        raw.recv(65536)
        with contextlib.suppress(ConnectionError):
            raw.sendall(ANSWERS[answer])
        raw.close()
        vitals = vitals or Vitals(house)
    said(house, "Connection to coordinator failed", "warn")
    link = coordinator.join(WAIT_S, credential=CREDENTIAL)
    assert link.request["token"] == TOKEN
    link.drop()
    vitals.unharmed()


# P2 W34
def test_a_certificate_that_nobody_knows_is_refused_and_said(tmp_path):
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    made += ["-subj", "/CN=127.0.0.1", "-keyout", str(tmp_path / "key")]
    made += ["-out", str(tmp_path / "crt")]
    subprocess.run(made, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "crt", tmp_path / "key")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(WAIT_S)
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        house = House(tmp_path, env={"KICI_CLUSTER_COORDINATOR_URL": url} | FAST)
        try:
            house.start_worker(TOKEN, connected=False)
            vitals = Vitals(house)
            for _ in range(3):
                raw, _address = listener.accept()
                raw.settimeout(WAIT_S)
                with (
                    contextlib.suppress(OSError),
                    context.wrap_socket(raw, server_side=True) as tls,
                ):
                    assert not tls.recv(1000), "spoke before the certificate was checked"
                raw.close()
            line = said(house, "Connection to coordinator failed", "certificate")
            assert line["level"] == "warn"
            vitals.unharmed()
        finally:
            house.close()


# P2
def test_plain_text_where_tls_is_expected_is_said(tmp_path):
    with ScriptedCoordinator() as coordinator:
        url = coordinator.url.replace("ws://", "wss://")
        house = House(tmp_path, env={"KICI_CLUSTER_COORDINATOR_URL": url} | FAST)
        try:
            house.start_worker(TOKEN, connected=False)
            vitals = Vitals(house)
            for _ in range(3):
                raw = coordinator.accept_raw(WAIT_S)
                assert TOKEN.encode() not in raw.recv(65536)
                raw.sendall(ANSWERS["a page"])
                raw.close()
            said(house, "Connection to coordinator failed", "TLS")
            vitals.unharmed()
        finally:
            house.close()


# P27 W49 W51 W52
@pytest.mark.parametrize(
    ("reason", "code", "words"),
    [
        ("Invalid token", 4001, "Invalid token"),
        ("Token expired", 4001, "Token expired"),
        ("Token already used", 4001, "Token already used"),
        ("Protocol version 3 is below 9", 4005, "Unsupported protocol version"),
    ],
)
def test_a_refused_token_is_said_kept_and_tried_again(lonely, reason, code, words):
    house, coordinator = lonely
    for _ in range(2):
        link = coordinator.accept(WAIT_S)
        assert link.handshake()["token"] == TOKEN
        link.refuse(reason, code)
    said(house, words)
    assert not (house.root / "data/peer-credential").exists()
    coordinator.join(WAIT_S, credential=CREDENTIAL).drop()
    assert (house.root / "data/peer-credential").exists()
    Vitals(house).unharmed()


HELLOS = ["", "{}", "[]", "[" * 100_000, '{"type":"peer.hello"}', "\0",
          '{"type":"peer.hello","ephemeralPublicKey":"AAAA","nonce":"AAAA"}',
          '{"type":"peer.hello","ephemeralPublicKey":5,"nonce":[]}']  # fmt: skip


# P6 P8
def test_a_malformed_hello_ends_that_dial_only(lonely):
    house, coordinator = lonely
    link = coordinator.accept(WAIT_S)
    vitals = Vitals(house)
    for hello in HELLOS:
        with contextlib.suppress(OSError):
            link.send_frame(hello)
    assert link.wait_closed(20)
    link.drop()
    coordinator.join(WAIT_S, credential=CREDENTIAL).drop()
    vitals.unharmed()


# --- on the link --------------------------------------------------------------------------


# P5
def test_a_frame_above_25_mib_ends_the_link_and_the_next_one_works(siege):
    link = siege.link
    with contextlib.suppress(OSError):
        link.raw.settimeout(WAIT_S)
        link.send_frame(b"A" * (26 * 2**20))
    closed = link.wait_closed()
    assert closed.code in (1009, 1006)
    link.drop()
    siege.accept()
    assert siege.offer("after-big", runsOnLabels=[["mars"]])["accepted"] is False


# P68
def test_malformed_sealed_messages_are_dropped_and_noted(siege):
    for text in ["", "null", "[]", "{", "[" * 50_000, '{"a":' * 20_000, '"x"', "1e999"]:
        siege.link.send(text)
    siege.link.send(reroute("bad") | {"cloneToken": 5})
    siege.link.send({"type": "raft.append.entries", "term": 1})
    siege.link.send({"type": "peer.job.cancel", "runId": ["r"], "reason": 1})
    siege.link.send({"type": "nobody.knows.this"})
    assert siege.offer("sane", runsOnLabels=[["mars"]])["messageId"] == "m-sane"
    said(siege.house, "Invalid message from coordinator dropped", "job.reroute", "cloneToken")


# P68
def test_ten_undecryptable_frames_end_the_link_with_a_line(siege):
    for _ in range(10):
        siege.link.send_frame("A" * 100)
    assert siege.link.wait_closed().reason == "Too many undecryptable frames"
    siege.link.drop()
    siege.accept()


REFUSED = {
    "labels nobody has": ({"runsOnLabels": [["mars"]]}, "No matching agent available"),
    "a loop": ({"triedConnections": ["worker-1"]}, "Loop detected"),
    "too many hops": ({"triedConnections": ["a", "b", "c"]}, "Max hops exceeded"),
    "negative hops": ({"maxHops": -1}, "Max hops exceeded"),
    "a config that is a list": ({"jobConfig": [1]}, "Invalid job.reroute"),
    "a config that is a text": ({"jobConfig": "x"}, "Invalid job.reroute"),
    "resources that are a list": ({"jobConfig": {"resources": [1]}}, "Invalid job: resources"),
    "200,000 labels": ({"runsOnLabels": [[f"l{i}" for i in range(200_000)]]}, "512 labels"),
    "a long id": ({"runId": "r" * 5_000_000}, "runId is longer"),
    "a bad pattern": (
        {"runsOnPatterns": [{"kind": "regex", "source": "(", "flags": ""}]},
        "Invalid job: label pattern",
    ),
    "a pattern of a new kind": ({"runsOnPatterns": [{"kind": "glob"}]}, "unknown kind"),
    "a long name": ({"jobName": "n" * 10_000_000, "runsOnLabels": [["mars"]]}, "No matching"),
    "an escape": ({"jobName": "\x1b[2J<b>\0", "runsOnLabels": [["mars"]]}, "No matching"),
    "ids that are paths": (
        {"runId": "../../x", "jobId": "/etc/passwd", "runsOnLabels": [["mars"]]},
        "No matching",
    ),
}


# P37 P45 P41
@pytest.mark.parametrize("case", list(REFUSED))
def test_an_impossible_job_is_refused_with_its_reason(siege, case):
    changes, words = REFUSED[case]
    answer = siege.offer("impossible", **changes)
    assert answer["accepted"] is False
    assert words in answer["reason"]
    assert len(answer["reason"]) < 1000


# A52 P45
def test_a_pattern_that_backtracks_for_ever_elsewhere_is_answered_at_once(siege):
    agent = siege.agent("re", "a" * 250 + "!", "other")
    for source in ["^(a+)+$", "(a*)*b", "^(.*)(.*)(.*)(.*)[^a!]$", "(a|a)*$b", "((a?){90}){9}b"]:
        began = time.monotonic()
        pattern = {"kind": "regex", "source": source, "flags": ""}
        siege.offer("re", runsOnLabels=[["other"]], runsOnPatterns=[pattern])
        assert time.monotonic() - began < 3
        assert siege.house.web("GET", "/health")[0] == 200
    agent.close()
    siege.link.send({"type": "peer.job.cancel", "runId": "r1", "reason": "over"})


# P37 P46
def test_a_thousand_offers_at_once_are_all_answered_and_the_queue_is_bounded(siege):
    agent = siege.agent("busy")
    for number in range(1000):
        siege.link.send(reroute(f"f{number}", messageId=f"f{number}", runId="flood"))
    answers = [siege.answer() for _ in range(1000)]
    assert {a["messageId"] for a in answers} == {f"f{number}" for number in range(1000)}
    kinds = Counter((a["accepted"], a.get("reason")) for a in answers)
    assert kinds == {(True, None): 6, (False, "At capacity"): 994}
    dispatch = agent.expect("job.dispatch")
    agent.job("job.ack", dispatch)
    agent.job("job.status", dispatch, state="success")
    agent.close()
    # The others reach their deadline in the queue.
    ended = set()
    deadline = time.monotonic() + 20
    while len(ended) < 6 and time.monotonic() < deadline:
        report = siege.link.expect("job.progress", 15, skip=SEEN)
        if report["state"] in ("success", "failed", "cancelled"):
            siege.receipt(report)
            ended.add(report["jobId"])
    assert len(ended) == 6


SEEN = ("peer.heartbeat", "peer.log.chunk", "scaler.event", "job.reroute.ack")


# P46
def test_a_job_that_waits_too_long_in_the_queue_fails_and_says_so(siege):
    agent = siege.agent("slow")
    assert siege.offer("first")["accepted"]
    dispatch = agent.expect("job.dispatch")
    agent.job("job.ack", dispatch)
    agent.job("job.status", dispatch, state="running")
    assert siege.offer("second")["accepted"]
    report = siege.ended("second")
    assert report["state"] == "failed"
    assert report["data"]["error"]
    agent.job("job.status", dispatch, state="success")
    assert siege.ended("first")["state"] == "success"
    agent.close()


# P68 P69
@pytest.mark.parametrize("seed", range(3))
def test_mutated_recordings_of_coordinators_never_hurt_the_worker(siege, seed):
    messages = []
    for path in sorted(TRANSCRIPTS.glob("*.jsonl")):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        messages += [json.dumps(r["msg"]) for r in rows
                     if r.get("dir") == "coordinator->worker" and r.get("enc")]  # fmt: skip
    assert len(messages) > 20
    rng = random.Random(seed)
    for _ in range(500):
        siege.link.send(mutated(rng, messages))
    siege.link.send(reroute("sane", runsOnLabels=[["mars"]], messageId=f"sane{seed}"))
    wait_for(lambda: siege.answer()["messageId"] == f"sane{seed}", "the sane answer", 20)


# P9
def test_links_that_drop_again_and_again_leave_nothing(siege):
    for _ in range(4):
        siege.link.drop()
        siege.accept()
