"""Warm pools that will never be full, or never be used, are told when the file is read."""

import pytest

from kici.config.enrich import Host
from kici.config.scalers import read_scalers

SETS = "[{labels: [linux], image: i}]"
TWO = "[{labels: [linux], image: i}, {labels: [linux, big], image: i}]"


@pytest.fixture
def warnings(tmp_path):
    def warnings(scaler, top="", sets=SETS, kind="container"):
        file = tmp_path / "scalers.yaml"
        file.write_text(
            f"version: 1\n{top}\nscalers:\n"
            f"  - {{name: a, type: {kind}, maxAgents: 2, labelSets: {sets}, {scaler}}}\n"
        )
        config, problems = read_scalers(str(file), None, Host("linux", "x64"))
        assert not problems
        return [one.replace(f"{tmp_path}/", "") for one in config.warnings]

    return warnings


WARM = "warmPool: {enabled: true, size: 2}"


@pytest.mark.parametrize(
    ("scaler", "more", "said"),
    [
        ("warmPool: {enabled: true, size: 3}", {}, "size 3 is more than maxAgents 2"),
        (WARM, {"sets": TWO}, "size 2 for each of 2 label sets is more than maxAgents 2"),
        (WARM, {"top": "globalMaxAgents: 1"}, "1 is less than the 2 agents of all warm pools"),
        ("warmPool: {size: 2}", {}, "`enabled` is not true"),
        ("warmPool: {enabled: true}", {}, "`size` is 0"),
        (
            WARM + ", resourceCap: {maxCpu: 3}",
            {"sets": "[{labels: [linux], image: i, resources: {cpus: 2, memory: 1g}}]"},
            "request more than resourceCap allows",
        ),
        (
            WARM,
            {"top": "globalResourceCap: {maxMemory: 1g}\ndefaults: {resources: {memory: 600m}}"},
            "request more than globalResourceCap allows",
        ),
        (
            WARM + ", machinePool: p",
            {
                "top": "machinePools: [{name: p, cap: {maxCpu: 1}}]",
                "sets": "[{labels: [linux], image: i, resources: {cpus: 1}}]",
            },
            "request more than machinePool p allows",
        ),
        (
            "warmPool: {enabled: true, size: 1}",
            {"sets": "[{labels: [linux], image: i}, {labels: [LINUX], image: j}]"},
            "labelSets[1]: its warm pool is never used: labelSets[0] has the same labels",
        ),
    ],
)
def test_a_pool_that_cannot_become_what_it_says_is_a_warning(warnings, scaler, more, said):
    found = warnings(scaler, **more)
    assert any(said in one for one in found), found


def test_a_warning_names_its_place(warnings):
    (said,) = warnings("warmPool: {enabled: true, size: 3}")
    assert said.startswith("scalers.yaml: scalers[0].warmPool: ")


@pytest.mark.parametrize(
    ("scaler", "more"),
    [
        (WARM, {}),
        ("warmPool: {enabled: true, size: 1}", {"sets": TWO}),
        ("roles: [builder]", {}),
        (
            WARM + ", resourceCap: {maxCpu: 4}",
            {"sets": "[{labels: [linux], image: i, resources: {cpus: 2}}]"},
        ),
    ],
)
def test_a_pool_that_fits_is_no_warning(warnings, scaler, more):
    assert warnings(scaler, **more) == []
