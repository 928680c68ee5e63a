import socket

import pytest

from kici.supervisor.listen import PortUnavailable, open_listener


def test_a_listener_takes_connections_before_anybody_accepts():
    with open_listener("127.0.0.1", 0) as listener:
        socket.create_connection(listener.getsockname(), 5).close()


def test_an_ipv6_address_is_listened_on():
    try:
        listener = open_listener("::1", 0)
    except PortUnavailable:
        pytest.skip("this machine has no IPv6")
    with listener:
        assert listener.family == socket.AF_INET6


def test_everywhere_in_ipv6_means_ipv4_too():
    try:
        listener = open_listener("::", 0)
    except PortUnavailable:
        pytest.skip("this machine has no IPv6")
    with listener:
        socket.create_connection(("127.0.0.1", listener.getsockname()[1]), 5).close()


def test_a_taken_port_is_named_with_its_host():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortUnavailable, match=f"port {port}: Address already .*KICI_PORT"):
            open_listener("127.0.0.1", port)


def test_a_host_that_is_no_host_is_the_same_kind_of_error():
    with pytest.raises(PortUnavailable, match="Cannot listen on no.such.host.invalid"):
        open_listener("no.such.host.invalid", 0)
