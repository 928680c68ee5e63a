"""What recorded reference workers sent is understood by our acceptor."""

import json
from pathlib import Path

import msgspec

from kici.contracts.wire.join import PeerAuthRequest
from kici.contracts.wire.peer import ToCoordinator
from kici.contracts.wire.peer.heartbeat import HeartbeatReceived
from kici.protocol.inventory import read_inventory

TRANSCRIPTS = Path(__file__).parent.parent / "transcripts"


def said_by_workers(path):
    for line in path.read_text().splitlines():
        entry = json.loads(line)
        if entry.get("dir") == "worker->coordinator" and isinstance(entry.get("msg"), dict):
            yield entry["msg"]


def test_every_recorded_frame_of_a_worker_is_read():
    kinds = set()
    for path in sorted(TRANSCRIPTS.glob("*.jsonl")):
        for message in said_by_workers(path):
            kinds.add(message["type"])
            frame = json.dumps(message)
            if message["type"] == "peer.auth.request":
                msgspec.json.decode(frame, type=PeerAuthRequest)
            elif message["type"] != "peer.hello.response":
                heard = msgspec.json.decode(frame, type=ToCoordinator)
                if isinstance(heard, HeartbeatReceived):
                    assert read_inventory(heard).rejected == 0, path.name
    assert {"peer.heartbeat", "job.reroute.ack", "job.progress", "peer.log.chunk"} <= kinds
