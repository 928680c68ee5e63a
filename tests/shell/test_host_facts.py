"""kici/shell/host_facts.py on this host."""

import os

from kici.shell import host_facts as module


def test_facts_are_plausible_and_complete_here():
    facts = module.host_facts()
    assert facts.cpu_count == os.cpu_count()
    assert facts.running_as_uid == os.getuid()
    assert facts.uptime_seconds > 0
    assert facts.node_version.startswith("cpython-3.")
    assert facts.total_memory_mb > 100


def test_without_proc_the_total_is_still_known(monkeypatch):
    monkeypatch.setattr(module, "_MEMORY_FILE", "/nonexistent")
    facts = module.host_facts()
    assert facts.total_memory_mb > 100
    assert facts.memory_available_mb is None
    assert facts.memory_used_mb is None
