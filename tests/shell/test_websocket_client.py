"""kici/shell/websocket_client.py against plain and TLS sockets."""

import datetime
import ipaddress
import socket
import ssl

import gevent
import gevent.socket
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from gevent.ssl import SSLContext
from websockets.frames import Frame, Opcode
from websockets.server import ServerProtocol

from kici.shell import client_sending
from kici.shell.websocket_client import ConnectFailed, Disconnected, connect

LIMIT = 25 * 2**20


class Server:
    """One accepted WebSocket connection on a gevent socket."""

    def __init__(self, context=None):
        self.listener = gevent.socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen()
        self.port = self.listener.getsockname()[1]
        self.context = context
        self.raw = None
        self.received = []
        self.protocol = ServerProtocol(max_size=2**26)

    def url(self, scheme="ws", host="127.0.0.1"):
        return f"{scheme}://{host}:{self.port}/ws/peer"

    def accept(self):
        self.raw, _address = self.listener.accept()
        if self.context is not None:
            self.raw = self.context.wrap_socket(
                self.raw, server_side=True, do_handshake_on_connect=False
            )
            self.raw.do_handshake()

    def upgrade_only(self):
        self.accept()
        self.protocol.receive_data(self.raw.recv(65536))
        (request,) = self.protocol.events_received()
        self.protocol.send_response(self.protocol.accept(request))
        self.flush()

    def serve(self, echo=True):
        """Upgrade, then answer each message with itself until the end."""
        try:
            self.accept()
            while data := self.raw.recv(65536):
                self.protocol.receive_data(data)
                for event in self.protocol.events_received():
                    if not isinstance(event, Frame):
                        self.protocol.send_response(self.protocol.accept(event))
                    elif event.opcode in (Opcode.TEXT, Opcode.BINARY):
                        self.received.append(bytes(event.data))
                        if echo:
                            self.protocol.send_text(bytes(event.data))
                self.flush()
        except OSError:
            pass

    def flush(self):
        for chunk in self.protocol.data_to_send():
            if chunk:
                self.raw.sendall(chunk)

    def close(self):
        self.listener.close()
        if self.raw is not None:
            self.raw.close()


@pytest.fixture
def server():
    made = Server()
    yield made
    made.close()


@pytest.fixture
def dialled(server):
    task = gevent.spawn(server.serve)
    connection = connect(server.url(), timeout_s=5, max_size=LIMIT)
    yield connection
    connection.abort()
    task.kill()


def test_text_goes_out_and_comes_back(dialled, server):
    dialled.send_text("hé")
    assert dialled.receive(5) == "hé".encode()
    dialled.send_text(b"bytes")
    assert dialled.receive(5) == b"bytes"
    dialled.ping()


# P4
def test_binary_and_fragmented_messages_are_received(dialled, server):
    dialled.send_text("ready")
    assert dialled.receive(5) == b"ready"
    server.protocol.send_binary(b"\x00\xff")
    server.protocol.send_text(b"one ", fin=False)
    server.protocol.send_ping(b"between")
    server.protocol.send_continuation(b"two", fin=True)
    server.flush()
    assert dialled.receive(5) == b"\x00\xff"
    assert dialled.receive(5) == b"one two"


def test_a_server_that_never_pauses_lets_other_greenlets_run(dialled, server):
    n_messages, turns = 20_000, []

    def others():
        while True:
            turns.append(1)
            gevent.sleep(0)

    dialled.send_text("ready")
    dialled.receive(5)
    flood = b"\x81\x04junk" * n_messages
    sending = gevent.spawn(server.raw.sendall, flood)
    beside = gevent.spawn(others)
    for _ in range(n_messages):
        assert dialled.receive(5) == b"junk"
    sending.get(timeout=5)
    beside.kill()
    assert len(turns) > n_messages / 100


# P5
def test_the_largest_message_passes_both_ways(dialled):
    big = b"x" * LIMIT
    task = gevent.spawn(dialled.send_text, big)
    assert dialled.receive(20) == big
    task.get(timeout=5)


# P5
def test_a_larger_message_ends_with_1009(server):
    task = gevent.spawn(server.serve)
    connection = connect(server.url(), timeout_s=5, max_size=1000)
    connection.send_text(b"x" * 1001)
    with pytest.raises(Disconnected) as over:
        connection.receive(5)
    assert over.value.code == 1009
    task.kill()


def test_nothing_is_lost_by_a_time_out(dialled):
    with pytest.raises(TimeoutError):
        dialled.receive(0.01)
    dialled.send_text("later")
    assert dialled.receive(5) == b"later"


def test_many_greenlets_may_send(dialled):
    texts = [f"{number}".encode() * 2000 for number in range(50)]
    tasks = [gevent.spawn(dialled.send_text, text) for text in texts]
    assert {dialled.receive(5) for _ in texts} == set(texts)
    gevent.joinall(tasks, raise_error=True)


def test_the_close_of_the_server_is_reported_and_answered(dialled, server):
    dialled.send_text("ready")
    dialled.receive(5)
    server.protocol.send_close(4001, "Rate limited")
    server.flush()
    with pytest.raises(Disconnected) as over:
        dialled.receive(5)
    assert (over.value.code, over.value.reason) == (4001, "Rate limited")
    with pytest.raises(Disconnected):
        dialled.send_text("x")
    with gevent.Timeout(5):
        while server.protocol.close_rcvd is None:
            gevent.sleep(0.005)
    assert server.protocol.close_rcvd.code == 4001


def test_a_send_beside_our_own_close_is_disconnected(server):
    task = gevent.spawn(server.upgrade_only)
    connection = connect(server.url(), timeout_s=5, max_size=LIMIT)
    closer = gevent.spawn(connection.close, 1000, "bye", 5)
    gevent.sleep(0)
    for send in (lambda: connection.send_text("x"), connection.ping):
        with pytest.raises(Disconnected) as over:
            send()
        assert (over.value.code, over.value.reason) == (1000, "bye")
    connection.abort()
    closer.get(timeout=5)
    task.kill()


def test_our_close_waits_for_the_handshake_while_another_greenlet_reads(dialled, server):
    reader = gevent.spawn(lambda: pytest.raises(Disconnected, dialled.receive))
    gevent.sleep(0)
    dialled.close(1000, "Client disconnect", 5)
    reader.get(timeout=5)
    assert server.protocol.close_rcvd.code == 1000
    assert not dialled.is_open


def test_our_close_is_bounded_when_the_server_is_silent(server):
    task = gevent.spawn(server.upgrade_only)
    connection = connect(server.url(), timeout_s=5, max_size=LIMIT)
    with gevent.Timeout(2):
        connection.close(1000, "x", 0.05)
    assert not connection.is_open
    task.kill()


# P63
def test_a_stalled_reader_ends_the_write_in_time(server, monkeypatch):
    monkeypatch.setattr(client_sending, "WRITE_TIMEOUT_S", 0.1)

    task = gevent.spawn(server.upgrade_only)
    connection = connect(server.url(), timeout_s=5, max_size=LIMIT)

    def send_for_ever():
        while True:
            connection.send_text(b"x" * 2**20)

    with pytest.raises(Disconnected, match="timed out"), gevent.Timeout(10):
        send_for_ever()
    task.kill()


def test_a_lost_connection_is_1006(dialled, server):
    dialled.send_text("ready")
    dialled.receive(5)
    server.raw.close()
    with pytest.raises(Disconnected) as over:
        dialled.receive(5)
    assert over.value.code == 1006


@pytest.mark.parametrize(
    ("answer", "reason", "status"),
    [
        (b"HTTP/1.1 404 Not Found\r\n\r\nendless body", "HTTP 404 instead of 101", 404),
        (b"HTTP/1.1 301 Moved\r\nLocation: /x\r\n\r\n", "HTTP 301 instead of 101", 301),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "no HTTP answer", None),
        (b"", "connection closed during the upgrade", None),
        (b"HTTP/1.1 101 X\r\n\r\n", "bad upgrade answer", 101),
    ],
)
def test_answers_other_than_101_are_told_apart(server, answer, reason, status):
    def answer_once():
        server.accept()
        server.raw.recv(65536)
        server.raw.sendall(answer)
        if not answer:
            server.raw.close()

    task = gevent.spawn(answer_once)
    with pytest.raises(ConnectFailed) as failed:
        connect(server.url(), timeout_s=5, max_size=LIMIT)
    assert failed.value.reason.startswith(reason)
    assert failed.value.status == status
    task.kill()


def test_refusal_unknown_name_silence_and_nonsense_are_told_apart(server):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        free = probe.getsockname()[1]
    for url, reason in (
        (f"ws://127.0.0.1:{free}/", "connection refused"),
        ("ws://no-such-host.invalid/", "name no-such-host.invalid cannot be resolved"),
        (server.url(), "timed out after 0.05 s"),
        ("ftp://x", "not a WebSocket URL"),
    ):
        with pytest.raises(ConnectFailed) as failed:
            connect(url, timeout_s=0.05 if "timed" in reason else 10, max_size=LIMIT)
        assert failed.value.reason.startswith(reason)
        assert failed.value.status is None


# --- TLS -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kici test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = directory / "cert.pem"
    pem.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret = directory / "key.pem"
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return pem, secret


@pytest.fixture
def secure_server(certificate):
    context = SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*map(str, certificate))
    made = Server(context)
    task = gevent.spawn(made.serve)
    yield made
    task.kill()
    made.close()


# P2
def test_wss_works_with_a_trusted_certificate(secure_server, certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    connection = connect(secure_server.url("wss"), timeout_s=5, max_size=LIMIT)
    connection.send_text(b"x" * 500_000)
    assert len(connection.receive(5)) == 500_000
    connection.close(1000, "", 5)


def test_wss_refuses_an_untrusted_certificate(secure_server):
    with pytest.raises(ConnectFailed, match="TLS failed: .*self.signed"):
        connect(secure_server.url("wss"), timeout_s=5, max_size=LIMIT)


def test_wss_refuses_a_certificate_of_another_host(secure_server, certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    with pytest.raises(ConnectFailed, match="TLS failed: .*ostname"):
        connect(secure_server.url("wss", "localhost"), timeout_s=5, max_size=LIMIT)


def test_wss_to_a_plain_port_fails_as_tls(server):
    def answer_once():
        server.accept()
        server.raw.recv(65536)
        server.raw.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    task = gevent.spawn(answer_once)
    with pytest.raises(ConnectFailed, match="TLS failed"):
        connect(server.url("wss"), timeout_s=5, max_size=LIMIT)
    task.kill()
