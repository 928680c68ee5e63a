"""Every recorded decision of the real loader, with the places where we differ on purpose."""

import json
import re
from pathlib import Path

import pytest

from kici.config.enrich import Host
from kici.config.scalers import read_scalers

VECTORS = json.loads((Path(__file__).parent / "vectors/scaler-config-vectors.json").read_text())[
    "vectors"
]
HOST = Host("linux", "x64")

#: Decisions that differ from 0.1.24, each with its reason.
DECIDES_OTHERWISE = {
    "S21": "0.9.1 accepts a bare-metal set with an image (we keep it as unsupported)",
    "name empty": "R of scaler spec 1.3.2: an empty name makes a useless kici:scaler: label",
    "labels comma": "R of 1.3.6: a comma breaks the comma-joined KICI_LABELS",
    "machinePools name slash": "R of 2.7: the name becomes a file name",
}
#: Same decision, other path than recorded.
PATH_DIFFERS = {
    "S23 event": "0.9.1 knows the type; what is missing is provisioningTargets",
}
#: Accepted alike, other result.
RESULT_DIFFERS = {
    "S31": ("IfNotPresent", "the default of 0.9.1"),
    "labels space": (["linux"], "0.9.1 trims and lower-cases"),
    "env __proto__": ({"__proto__": "x", "constructor": "y"}, "no JavaScript prototype here"),
}


def _first(config):
    return config.scalers[0]


def _resources(resources):
    def spec(one):
        return {"cpus": one.cpus} | ({"memory": one.memory_bytes} if one.memory_bytes else {})

    return {"requests": spec(resources.requests), "limits": spec(resources.limits)}


def _roles(config):
    roles = _first(config).roles
    return "undef" if roles is None else list(roles)


#: What ``selected`` of a vector is, by the beginning of its id.
SELECT = {
    "S2/S3": lambda c: [s.name for s in c.scalers],
    "S4": lambda c: [c.global_max_agents, len(c.scalers)],
    "S5": lambda c: len(c.scalers),
    "S9": lambda c: list(_first(c).label_sets[0].labels),
    "S10": lambda c: _first(c).max_agents,
    "S12": lambda c: _first(c).label_sets[0].env,
    "S26": _roles,
    "S27": lambda c: _resources(_first(c).label_sets[0].resources),
    "S28": lambda c: _first(c).resource_cap.max_memory_bytes,
    "S30": lambda c: {
        "enabled": _first(c).warm_pool.enabled,
        "size": _first(c).warm_pool.size,
        "idleTimeoutSeconds": _first(c).warm_pool.idle_timeout_s,
    },
    "S31": lambda c: _first(c).label_sets[0].image_pull_policy,
    "max": lambda c: _first(c).max_agents,
    "env": lambda c: _first(c).label_sets[0].env,
    "dup intkey": lambda c: _first(c).label_sets[0].env,
    "labels": lambda c: list(_first(c).label_sets[0].labels),
    "tag": lambda c: list(_first(c).label_sets[0].labels),
    "defaults.resources": lambda c: {"resources": _resources(c.default_resources)},
}
#: Keys of scalers that this worker cannot run are checked and then not kept.
NOT_KEPT = ("uid neg", "firecracker partial")


def _read(vector, directory):
    main = directory / "scalers.yaml"
    main.write_text(vector["main"])
    extra = directory / "scalers.d"
    if vector.get("dirExists"):
        extra.mkdir()
    for name, text in (vector.get("dir") or {}).items():
        (extra / name).write_text(text)
    return read_scalers(str(main), str(extra) if "dir" in vector else None, HOST)


def _dotted(problem):
    path = problem.where.partition(": ")[2]
    return re.sub(r"\[(\d+)\]", r".\1", path)


# S2-S14, S17-S20, S22-S31, S34
@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["id"])
def test_a_scaler_file_is_decided_as_by_the_real_loader(vector, tmp_path):
    config, problems = _read(vector, tmp_path)
    expected = vector["accept"] != (vector["id"] in DECIDES_OTHERWISE)
    assert (not problems) == expected, problems
    if not problems or vector["accept"] or vector["id"] in PATH_DIFFERS:
        return
    if vector["errorPaths"] == "load-error":
        return
    found = [_dotted(problem) for problem in problems]
    # Ours may say more exactly where, never less.
    for path in vector["errorPaths"]:
        assert any(each.startswith(path) for each in found), (path, found)


# S2, S3, S4, S5, S9, S10, S12, S26, S27, S28, S30, S31, S32
@pytest.mark.parametrize(
    "vector",
    [
        each
        for each in VECTORS
        if each["accept"]
        and "selected" in each
        and each["id"] not in NOT_KEPT
        and each["id"] not in DECIDES_OTHERWISE
    ],
    ids=lambda vector: vector["id"],
)
def test_an_accepted_scaler_file_means_what_the_real_loader_makes_of_it(vector, tmp_path):
    config, problems = _read(vector, tmp_path)
    assert not problems
    select = next(SELECT[key] for key in SELECT if vector["id"].startswith(key))
    expected, _ = RESULT_DIFFERS.get(vector["id"], (vector["selected"], ""))
    assert select(config) == expected


def test_an_event_scaler_without_targets_is_refused_for_that(tmp_path):
    (vector,) = (each for each in VECTORS if each["id"] == "S23 event")
    _, problems = _read(vector, tmp_path)
    assert [_dotted(each) for each in problems] == ["scalers.0.provisioningTargets"]


def test_every_deviation_names_a_vector_that_exists():
    ids = {vector["id"] for vector in VECTORS}
    assert ids >= {*DECIDES_OTHERWISE, *PATH_DIFFERS, *RESULT_DIFFERS, *NOT_KEPT}
