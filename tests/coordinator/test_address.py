"""Whose connection it is (peer spec 1.7)."""

import ipaddress

import pytest

from kici.coordinator.address import client_address

PROXIES = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("::1/128"))


# C16
@pytest.mark.parametrize(
    ("remote", "headers", "address"),
    [
        ("192.0.2.1:5", [("X-Forwarded-For", "203.0.113.9")], "192.0.2.1"),
        ("10.1.2.3:5", [("X-Forwarded-For", "203.0.113.9, 10.0.0.1")], "203.0.113.9"),
        ("10.1.2.3:5", [("x-real-ip", "203.0.113.8"), ("X-Forwarded-For", "a")], "203.0.113.8"),
        ("::ffff:10.1.2.3:5", [("X-Real-IP", "203.0.113.8")], "203.0.113.8"),
        ("::1:5", [("X-Real-IP", "203.0.113.8")], "203.0.113.8"),
        ("[2001:db8::1]:5", [("X-Real-IP", "203.0.113.8")], "2001:db8::1"),
        ("10.1.2.3:5", [], "10.1.2.3"),
        ("", [], "unknown"),
    ],
)
def test_proxy_headers_count_only_from_configured_proxies(remote, headers, address):
    assert client_address(remote, headers, PROXIES) == address
