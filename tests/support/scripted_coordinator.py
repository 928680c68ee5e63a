"""A coordinator that does exactly what a test says: plain sockets, no threads, deadlines.

    with ScriptedCoordinator() as coordinator:
        worker = coordinator.accept()          # a dialled and upgraded connection
        request = worker.handshake()           # hello, hello response, auth request (a dict)
        worker.welcome(version="0.9.1")        # the accepting auth response
        beat = worker.expect("peer.heartbeat")
        worker.send({"type": "job.reroute", …})
        ack = worker.expect("job.reroute.ack")
        worker.close(4001, "Rate limited")

Everything blocks at most ``timeout_s`` and then raises ``TimeoutError``.
"""

import base64
import json
import os
import socket
import time
from collections import deque

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from websockets.frames import Opcode
from websockets.server import ServerProtocol

from kici.protocol import handshake

TIMEOUT_S = 10.0
MAX_FRAME = 64 * 2**20


class Closed(Exception):
    """The worker's connection ended; ``code`` 1006: without a close frame."""

    def __init__(self, code, reason):
        super().__init__(f"{code} {reason}")
        self.code = code
        self.reason = reason


class ScriptedCoordinator:
    """Owns: a listening port and every connection it accepted."""

    def __init__(self, port=0, instance_id="coord-a"):
        self.instance_id = instance_id
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = self._listener.getsockname()[1]
        self.connections = []

    @property
    def url(self):
        return f"ws://127.0.0.1:{self.port}"

    def accept_raw(self, timeout_s=TIMEOUT_S):
        """The TCP connection alone, for tests that answer with something else than 101."""
        self._listener.settimeout(timeout_s)
        raw, _address = self._listener.accept()
        self.connections.append(raw)
        return raw

    def accept(self, timeout_s=TIMEOUT_S):
        worker = Worker(self.accept_raw(timeout_s), self.instance_id)
        self.connections[-1] = worker
        worker.upgrade(timeout_s)
        return worker

    def join(self, timeout_s=TIMEOUT_S, **answer):
        """Accept, authenticate and take the first heartbeat."""
        worker = self.accept(timeout_s)
        worker.handshake()
        worker.welcome(**answer)
        worker.expect("peer.heartbeat")
        return worker

    def close(self):
        for connection in self.connections:
            connection.close() if isinstance(connection, socket.socket) else connection.drop()
        self._listener.close()

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.close()


class Worker:
    """One accepted connection, seen from the coordinator."""

    def __init__(self, raw, instance_id):
        self.raw = raw
        self.instance_id = instance_id
        self.path = None
        self.request_headers = None
        self.request = None
        self.sealer = None
        self.opcodes = []
        self._protocol = ServerProtocol(max_size=MAX_FRAME)
        self._frames = deque()
        self._private = X25519PrivateKey.generate()
        self.nonce = os.urandom(32)
        self._schemes = ()

    def upgrade(self, timeout_s=TIMEOUT_S):
        deadline = time.monotonic() + timeout_s
        events = []
        while not events:
            self._read(deadline)
            events = self._protocol.events_received()
        request = events[0]
        self.path, self.request_headers = request.path, request.headers
        self._protocol.send_response(self._protocol.accept(request))
        self._write()

    # --- frames --------------------------------------------------------------------------

    def send_frame(self, data, *, binary=False):
        """A raw frame; ``str`` or ``bytes``."""
        data = data.encode() if isinstance(data, str) else data
        (self._protocol.send_binary if binary else self._protocol.send_text)(data)
        self._write()

    def receive_frame(self, timeout_s=TIMEOUT_S):
        """The next raw frame, bytes. ``Closed`` when the worker closes."""
        deadline = time.monotonic() + timeout_s
        while not self._frames:
            self._take()
            if self._frames:
                break
            if self._protocol.close_rcvd is not None:
                self.drop()
                raise Closed(self._protocol.close_rcvd.code, self._protocol.close_rcvd.reason)
            self._read(deadline)
        return self._frames.popleft()

    def send(self, message):
        """Seal and send a message (a dict, or its JSON text)."""
        text = message if isinstance(message, str | bytes) else json.dumps(message)
        data = text.encode() if isinstance(text, str) else text
        self.send_frame(self.sealer.seal(data, os.urandom(12)))

    def receive(self, timeout_s=TIMEOUT_S):
        """The next message of any type, as a dict."""
        plain = self.sealer.open(self.receive_frame(timeout_s))
        assert plain is not None, "worker sent a frame that does not decrypt"
        return json.loads(plain)

    def expect(self, kind, timeout_s=TIMEOUT_S, skip=("peer.heartbeat",)):
        """The next message of type ``kind``; types in ``skip`` may come before it."""
        deadline = time.monotonic() + timeout_s
        while True:
            message = self.receive(max(0.01, deadline - time.monotonic()))
            if message["type"] == kind:
                return message
            assert message["type"] in skip, f"expected {kind}, got {message}"

    def nothing_for(self, seconds, ignore=("peer.heartbeat",)):
        """Assert that no message but those in ``ignore`` comes."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                message = self.receive(left)
            except TimeoutError:
                return
            assert message["type"] in ignore, f"unexpected {message}"

    # --- handshake -----------------------------------------------------------------------

    def hello(self, *, schemes=None, **extra):
        self._schemes = tuple(schemes or ())
        message = {
            "type": "peer.hello",
            "ephemeralPublicKey": handshake.encode_key(self._private),
            "nonce": base64.b64encode(self.nonce).decode(),
            **({"authSchemes": list(schemes)} if schemes else {}),
            **extra,
        }
        self.send_frame(json.dumps(message))

    def handshake(self, timeout_s=TIMEOUT_S, **hello):
        """Everything up to the auth request, which is returned."""
        self.hello(**hello)
        answer = json.loads(self.receive_frame(timeout_s))
        assert answer["type"] == "peer.hello.response", answer
        self._other = handshake.decode_key(answer["ephemeralPublicKey"])
        self._key = handshake.session_key(self._private, self._other, self.nonce)
        self.sealer = handshake.Sealer(self._key)
        self.request = self.receive(timeout_s)
        assert self.request["type"] == "peer.auth.request", self.request
        return self.request

    def welcome(self, *, version="0.9.1", credential=None, psk=None, role="worker", **extra):
        """Accept. ``psk`` (the secret's hash) is needed for a mutual request."""
        answer = {
            "type": "peer.auth.response",
            "accepted": True,
            "instanceId": self.instance_id,
            "softwareVersion": version,
            "agents": [],
            "capabilities": {"s3LogAccess": True},
        }
        if credential:
            answer |= {"sessionCredential": credential, "role": role}
        if self.request.get("scheme") != handshake.MUTUAL_SCHEME:
            self.send(answer | extra)
            return
        transcript = handshake.transcript_hash(
            handshake.public_spki(self._private), self.nonce, self._schemes, self._other
        )
        client = bytes.fromhex(self.request["clientProof"])
        server = handshake.server_proof(
            psk,
            transcript,
            client,
            acceptor_id=self.instance_id,
            role=role,
            session_credential=credential,
        )
        self.send(answer | {"role": role, "serverProof": server.hex()} | extra)
        self.sealer = handshake.Sealer(
            handshake.application_key(self._key, psk, transcript, client, server)
        )

    def refuse(self, reason, code=4001):
        """The refusing answer, then the close."""
        self.send(
            {
                "type": "peer.auth.response",
                "accepted": False,
                "instanceId": self.instance_id,
                "reason": reason,
            }
        )
        self.close(code, reason)

    # --- ends ----------------------------------------------------------------------------

    def close(self, code=1000, reason=""):
        """Close with the handshake, as far as the worker plays along."""
        self._protocol.send_close(code, reason)
        self._write()
        deadline = time.monotonic() + 2
        try:
            while self._protocol.close_rcvd is None:
                self._read(deadline)
        except (Closed, TimeoutError):
            pass
        self.drop()

    def wait_closed(self, timeout_s=TIMEOUT_S):
        """The ``Closed`` of the worker's own close; messages before it are dropped."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                self.receive_frame(max(0.01, deadline - time.monotonic()))
            except Closed as closed:
                return closed

    def drop(self):
        """Close the TCP connection without a word."""
        self.raw.close()

    def _take(self):
        for frame in self._protocol.events_received():
            if getattr(frame, "opcode", None) in (Opcode.TEXT, Opcode.BINARY):
                assert frame.fin, "worker sent a fragmented message"
                self.opcodes.append(frame.opcode)
                self._frames.append(bytes(frame.data))

    def _read(self, deadline):
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("nothing came in time")
        self.raw.settimeout(left)
        try:
            data = self.raw.recv(65536)
        except (ConnectionError, BrokenPipeError):
            data = b""
        if not data:
            raise Closed(1006, "connection lost")
        self._protocol.receive_data(data)
        self._write()

    def _write(self):
        self.raw.settimeout(TIMEOUT_S)
        for chunk in self._protocol.data_to_send():
            try:
                self.raw.sendall(chunk) if chunk else None
            except (ConnectionError, BrokenPipeError):
                return
