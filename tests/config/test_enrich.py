import platform

import pytest

from kici.config.enrich import (
    Host,
    agent_labels,
    enriched,
    host_of,
    legacy_taints,
    overlap_key,
    taints_of,
    this_host,
)

LINUX = Host("linux", "x64")
MAC = Host("darwin", "arm64")
WINDOWS = Host("win32", "x64")


def _enriched(
    kind="container", declared=None, host=LINUX, labels=("linux", "container"), roles=None
):
    taints = taints_of(kind, declared, host)
    return enriched(labels, kind, "c1", roles, host_of(kind, declared, host), taints)


# S39
def test_a_container_set_is_offered_with_these_labels_in_this_order():
    assert _enriched() == (
        "linux", "container", "kici:os:linux", "kici:arch:x64", "kici:arch:amd64",
        "kici:agent:container", "kici:scaler:c1", "kici:role:builder", "kici:role:init-runner",
    )  # fmt: skip


# S40
@pytest.mark.parametrize("kind", ["container", "firecracker"])
def test_containers_on_a_mac_run_linux_on_its_architecture(kind):
    labels = _enriched(kind, host=MAC)
    assert "kici:os:linux" in labels
    assert "kici:arch:arm64" in labels
    assert not {"kici:os:macos", "arm64"} & set(labels)


# S41
def test_processes_on_windows_and_macos_have_both_names_of_their_system():
    assert {"kici:os:windows", "kici:os:win32", "windows"} < set(
        _enriched("bare-metal", host=WINDOWS)
    )
    assert {"kici:os:macos", "kici:os:darwin", "macos"} < set(_enriched("bare-metal", host=MAC))


def test_a_declared_platform_replaces_that_of_the_host():
    labels = _enriched("bare-metal", declared=MAC, host=LINUX)
    assert {"kici:os:macos", "kici:arch:arm64", "macos", "arm64"} < set(labels)
    assert "kici:os:linux" not in labels


def test_labels_are_folded_and_not_repeated():
    assert _enriched(labels=("Linux", "LINUX"), roles=())[:2] == ("linux", "kici:os:linux")


# S42
def test_an_agent_is_told_its_labels_without_system_architecture_and_host():
    assert agent_labels(("b", "a"), "bare-metal", "Pi", ("builder",), ("arm64",)) == (
        "b", "a", "kici:agent:bare-metal", "kici:scaler:Pi", "kici:role:builder", "arm64",
    )  # fmt: skip
    assert agent_labels(("a",), "container", "x", (), ()) == (
        "a", "kici:agent:container", "kici:scaler:x",
    )  # fmt: skip


def test_taints_come_from_the_platform_and_from_plain_labels():
    assert taints_of("container", None, MAC) == ()
    assert taints_of("bare-metal", None, LINUX) == ()
    assert taints_of("bare-metal", None, Host("sunos", "sparc")) == ()
    assert taints_of("container", MAC, LINUX) == ("macos", "arm64")
    assert legacy_taints(["linux", "aarch64", "win32", "gpu"]) == ("aarch64", "win32")


def test_an_overlap_is_found_whatever_order_and_case():
    assert overlap_key(["b", "A", "a"]) == overlap_key(["a", "B"]) == "a,b"


@pytest.mark.parametrize(
    ("system", "machine", "host"),
    [
        ("Linux", "x86_64", ("linux", "x64")),
        ("Linux", "aarch64", ("linux", "arm64")),
        ("Linux", "armv7l", ("linux", "arm")),
        ("Darwin", "arm64", ("darwin", "arm64")),
        ("Windows", "AMD64", ("win32", "x64")),
        ("Linux", "ppc64le", ("linux", "ppc64")),
        ("FreeBSD", "riscv64", ("freebsd", "riscv64")),
    ],
)
def test_this_host_has_the_names_of_the_wire(monkeypatch, system, machine, host):
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    found = this_host()
    assert (found.os, found.arch) == host
