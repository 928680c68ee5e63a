"""What is answered before Flask is there, and while it comes."""

import socket

from tests.support.web_child import WebChild


def ask(child: WebChild, path: str) -> socket.socket:
    """A request under way on a connection of its own."""
    connection = socket.create_connection(("127.0.0.1", child.port), 10)
    head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    connection.sendall(head.encode())
    return connection


def status_of(connection: socket.socket) -> int:
    with connection, connection.makefile("rb") as answer:
        return int(answer.readline().split()[1])


# W64, W66
def test_probes_and_pages_that_come_together_are_all_answered(web: WebChild) -> None:
    pages = [ask(web, "/") for _ in range(4)]
    scrapes = [ask(web, "/metrics") for _ in range(2)]
    for path in ("/health", "/ready", "/metrics"):
        assert web.request("GET", path)[0] == 200
    assert [status_of(scrape) for scrape in scrapes] == [200] * 2
    assert [status_of(page) for page in pages] == [200] * 4


def test_a_refused_host_gets_neither_probe_nor_page(shared: WebChild) -> None:
    for path in ("/health", "/status", "/"):
        status, headers, body = shared.request("GET", path, Host="evil.example.com")
        assert (status, headers["content-type"]) == (421, "application/json")
        assert b"KICI_ALLOWED_HOSTS" in body
