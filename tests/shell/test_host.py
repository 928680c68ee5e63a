import os
import socket

from kici.shell import host


def test_links_keep_messages_apart_with_and_without_seqpacket(monkeypatch):
    if host.is_linux():
        assert host.link_kind() == socket.SOCK_SEQPACKET
        assert host.links_report_eof()
        monkeypatch.setattr(host.sys, "platform", "darwin")
    assert host.link_kind() == socket.SOCK_DGRAM
    assert not host.links_report_eof()


def test_open_descriptors_are_found_with_and_without_a_listing(monkeypatch):
    reader, writer = os.pipe()
    assert {reader, writer} <= set(host.open_fds())
    monkeypatch.setattr(host, "FD_DIRECTORIES", ("/nowhere",))
    assert {reader, writer} <= set(host.open_fds())
    os.close(reader)
    os.close(writer)


def test_everything_but_the_kept_is_closed(monkeypatch):
    closed = []
    monkeypatch.setattr(host.os, "close", closed.append)
    monkeypatch.setattr(host, "open_fds", lambda: [0, 1, 2, 5, 6])
    host.close_fds_except([0, 1, 2, 6])
    assert closed == [5]


def test_a_missing_title_module_is_no_error(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "setproctitle", None)
    assert host.set_process_title("x") is False
