"""Facts about the machine, from files that look like the kernel's."""

import os
from pathlib import Path

from kici.shell.machine_facts import machine_facts, temperature, under_voltage, written_bytes


def test_the_hottest_sensor_counts_and_broken_ones_do_not(tmp_path: Path) -> None:
    for zone, text in (
        ("thermal_zone0", "48250\n"),
        ("thermal_zone1", "61000\n"),
        ("thermal_zone2", "x"),
    ):
        (tmp_path / zone).mkdir()
        (tmp_path / zone / "temp").write_text(text)
    assert temperature(tmp_path) == 61.0


def test_no_sensor_is_none_not_zero(tmp_path: Path) -> None:
    assert temperature(tmp_path) is None
    assert under_voltage(tmp_path) is None


def test_the_supply_alarm_of_a_pi_is_read(tmp_path: Path) -> None:
    alarm = tmp_path / "hwmon1"
    alarm.mkdir()
    (alarm / "in0_lcrit_alarm").write_text("0\n")
    assert under_voltage(tmp_path) is False
    (alarm / "in0_lcrit_alarm").write_text("1\n")
    assert under_voltage(tmp_path) is True


def test_this_machine_has_disk_memory_and_load(tmp_path: Path) -> None:
    facts = machine_facts(str(tmp_path))
    assert facts.disk_total is not None
    assert 0 <= (facts.disk_free or 0) <= facts.disk_total
    assert facts.n_cpus
    assert facts.load_1 is not None


def test_a_missing_directory_has_no_disk_and_raises_nothing() -> None:
    assert machine_facts("/nonexistent/place").disk_free is None


def test_written_bytes_skip_processes_that_are_gone() -> None:
    mine = written_bytes([os.getpid()])
    assert mine is None or mine >= 0
    assert written_bytes([2**22 + 1]) is None
