"""The worker end of a peer link for tests of the acceptor: made from ``handshake`` alone, so
that it shares nothing with the session that it tests."""

import base64
import hashlib
import json
import os
import time

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from kici.protocol import handshake

LIMIT_S = 10.0


class Dialer:
    """Keys and frames of one connection. ``use`` is token, credential or nothing."""

    def __init__(
        self, instance_id="worker-7", *, token=None, credential=None, mutual=False, **said
    ):
        self.instance_id = instance_id
        self.token, self.credential, self.mutual = token, credential, mutual
        self.said = {"protocolVersion": 3, "role": "worker", "softwareVersion": "0.9.1", **said}
        self.private = X25519PrivateKey.generate()
        self.sealer = None

    def answer(self, hello):
        """Hello response and authentication request for the acceptor's ``hello`` text."""
        return [self.hello_response(hello), self.seal(self.request())]

    def hello_response(self, hello):
        hello = json.loads(hello)
        assert hello["type"] == "peer.hello"
        spki = handshake.decode_key(hello["ephemeralPublicKey"])
        self.nonce = handshake.decode_nonce(hello["nonce"])
        self.key = handshake.session_key(self.private, spki, self.nonce)
        self.sealer = handshake.Sealer(self.key)
        self.transcript = handshake.transcript_hash(
            spki, self.nonce, tuple(hello["authSchemes"]), handshake.public_spki(self.private)
        )
        key = handshake.encode_key(self.private)
        return json.dumps({"type": "peer.hello.response", "ephemeralPublicKey": key})

    def request(self):
        base = {"type": "peer.auth.request", "instanceId": self.instance_id, **self.said}
        base = {key: value for key, value in base.items() if value is not None}
        if self.mutual:
            return base | self._mutual()
        if self.token is not None:
            return base | {"token": self.token}
        if self.credential is not None:
            hashed = handshake.credential_hash(self.credential)
            proof = handshake.credential_proof(hashed, self.nonce, self.instance_id)
            return base | {"proof": proof}
        return base

    def _mutual(self):
        routing = ""
        if self.token is not None:
            _, routing, secret = self.token.split(".")
            self.psk = hashlib.sha256(bytes.fromhex(secret)).digest()
        else:
            self.psk = handshake.credential_hash(self.credential)
        mode = "token" if self.token is not None else "credential"
        self.proof = handshake.client_proof(
            self.psk, self.transcript, mode=mode, instance_id=self.instance_id,
            role=self.said["role"], protocol_version=self.said["protocolVersion"],
            token_routing=routing,
        )  # fmt: skip
        asked = {"scheme": "mutual-v2", "mode": mode, "clientProof": self.proof.hex()}
        return asked | ({"tokenRouting": routing} if routing else {})

    def verdict(self, frame):
        """The acceptor's answer; after a mutual one the key changes, its proof checked."""
        answer = self.open(frame)
        assert answer["type"] == "peer.auth.response"
        if answer["accepted"]:
            self.credential = answer.get("sessionCredential", self.credential)
        if self.mutual and answer["accepted"]:
            server = handshake.server_proof(
                self.psk, self.transcript, self.proof, acceptor_id=answer["instanceId"],
                role=answer["role"], session_credential=answer.get("sessionCredential"),
            )  # fmt: skip
            assert answer["serverProof"] == server.hex()
            self.sealer = handshake.Sealer(
                handshake.application_key(self.key, self.psk, self.transcript, self.proof, server)
            )
        return answer

    def seal(self, message):
        text = message if isinstance(message, bytes) else json.dumps(message).encode()
        return self.sealer.seal(text, os.urandom(12))

    def open(self, frame):
        plain = self.sealer.open(frame)
        assert plain is not None, "frame does not decrypt"
        return json.loads(plain)

    def heartbeat(self, agents=(), backends=None, **more):
        beat = {
            "type": "peer.heartbeat", "instanceId": self.instance_id, "term": 0, "leaderId": None,
            "draining": False, "agents": list(agents), "capabilities": {"s3LogAccess": False},
            "configVersion": 0, "registryVersion": 0, "timestamp": 1772352930123,
        }  # fmt: skip
        return beat | ({} if backends is None else {"scalerCapacity": backends}) | more


def agent(name="a1", labels=("linux",), free=1, active=0, gate=()):
    """An agent summary with ``free`` free slots."""
    return {
        "agentId": name, "labels": list(labels), "activeJobs": active,
        "maxConcurrency": active + free, "platform": "linux", "arch": "x64",
        "mandatoryLabels": list(gate), "scalerName": None,
    }  # fmt: skip


def forged_token(token, **changed):
    """``token`` with another routing part."""
    head, routing, secret = token.split(".")
    said = json.loads(base64.urlsafe_b64decode(routing + "=="))
    text = json.dumps(said | changed, separators=(",", ":")).encode()
    return f"{head}.{base64.urlsafe_b64encode(text).rstrip(b'=').decode()}.{secret}"


class ScriptedWorker:
    """A worker on a real socket, steered by the test."""

    def __init__(self, url, **dialer):
        self.dialer = Dialer(**dialer)
        # Entered here: the form that both old and new versions of websockets take.
        opening = connect(url, compression=None, max_size=25 * 2**20, proxy=None)
        self.socket = opening.__enter__()
        self.unread = []
        self.joined = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def join(self):
        """Shake hands; the acceptor's verdict."""
        for frame in self.dialer.answer(self.socket.recv(LIMIT_S)):
            self.socket.send(frame)
        self.joined = self.dialer.verdict(self.socket.recv(LIMIT_S))
        return self.joined

    def say(self, message):
        self.socket.send(self.dialer.seal(message))

    def beat(self, *agents, **more):
        self.say(self.dialer.heartbeat(agents, **more))

    def expect(self, kind, **fields):
        """The next message of ``kind`` with these fields; others stay for later."""
        until = time.monotonic() + LIMIT_S
        while True:
            for place, message in enumerate(self.unread):
                if message["type"] == kind and fields.items() <= message.items():
                    return self.unread.pop(place)
            left = until - time.monotonic()
            assert left > 0, f"no {kind} {fields}; got {[m['type'] for m in self.unread]}"
            self.unread.append(self.dialer.open(self.socket.recv(left)))

    def accept(self, reroute=None):
        reroute = reroute or self.expect("job.reroute")
        ack = {"type": "job.reroute.ack", "messageId": reroute["messageId"], "accepted": True}
        self.say(ack)
        return reroute

    def report(self, reroute, state, kind="job", **more):
        report = {
            "type": "job.progress", "kind": kind, "runId": reroute["runId"],
            "jobId": reroute["jobId"], "jobName": "", "stepIndex": 0, "stepName": "",
            "state": state, "timestamp": int(time.time() * 1000),
        }  # fmt: skip
        self.say(report | more)

    def closed(self):
        """Read on until the other end has closed; code and reason."""
        until = time.monotonic() + LIMIT_S
        while time.monotonic() < until:
            try:
                self.socket.recv(LIMIT_S)
            except ConnectionClosed as closed:
                return (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (1006, "")
        raise AssertionError("the connection is still open")
