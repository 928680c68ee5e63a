import pytest

from kici.config.enrich import Host
from kici.config.scalers import read_scalers

LINUX = Host("linux", "x64")
SET = "{labels: [linux], image: i}"


@pytest.fixture
def read(tmp_path):
    def read(main, host=LINUX, **files):
        (tmp_path / "scalers.yaml").write_text(main)
        directory = tmp_path / "scalers.d"
        directory.mkdir(exist_ok=True)
        for name, text in files.items():
            (directory / f"{name}.yaml").write_text(text)
        config, problems = read_scalers(str(tmp_path / "scalers.yaml"), str(directory), host)
        read.where = [each.where.removeprefix(f"{tmp_path}/") for each in problems]
        read.what = [each.what for each in problems]
        read.warnings = "\n".join(config.warnings).replace(f"{tmp_path}/", "")
        return config

    return read


def _scaler(more="", sets=SET, kind="container", name="a"):
    return f"{{name: {name}, type: {kind}, maxAgents: 2, labelSets: [{sets}]{more}}}"


def _document(*scalers, top=""):
    return f"version: 1\n{top}scalers:\n" + "".join(f"  - {each}\n" for each in scalers)


# S1
def test_without_a_main_file_nothing_is_read(tmp_path):
    config, problems = read_scalers(None, str(tmp_path / "missing"), LINUX)
    assert (config.scalers, problems) == ((), ())


# S6
def test_a_directory_that_is_missing_or_holds_a_directory_fails_the_load(tmp_path):
    main = tmp_path / "main.yaml"
    main.write_text(_document(_scaler()))
    _, problems = read_scalers(str(main), str(tmp_path / "missing"), LINUX)
    assert "cannot be listed" in problems[0].what
    (tmp_path / "d/x.yaml").mkdir(parents=True)
    _, problems = read_scalers(str(main), str(tmp_path / "d"), LINUX)
    assert problems[0].where.endswith("x.yaml")


# S15
def test_a_dropped_key_is_a_warning(read):
    read(
        _document(
            _scaler(
                ", warmPool: {sise: 1}", "{labels: [l], image: i, networkPolicy: {allowList: []}}"
            ),
            top="globalMaxAgent: 3\ndefaults: {x: 1}\nfirecracker: {y: 2}\n",
        )
    )
    assert read.where == []
    for key in ("globalMaxAgent", "'x'", "'y'", "sise", "did you mean allowlist?"):
        assert key in read.warnings


# S4, S15
def test_other_keys_of_a_directory_file_are_dropped_with_a_warning(read):
    config = read(_document(_scaler()), b="globalMaxAgents: 1\nscalers: []\n", c="scalers: {}\n")
    assert config.global_max_agents == 50
    assert "scalers.d/b.yaml: globalMaxAgents" in read.warnings
    assert "scalers.d/c.yaml: scalers: expected a list" in read.warnings


# S16
@pytest.mark.parametrize(
    ("document", "where"),
    [
        (_document(_scaler(", maxagents: 2")), "scalers[0]"),
        (_document(_scaler(sets="{labels: [l], image: i, img: x}")), "scalers[0].labelSets[0]"),
        (
            _document(_scaler(sets="{labels: [l], image: i, resources: {limits: {cpu: 1}}}")),
            "scalers[0].labelSets[0].resources.limits",
        ),
        (_document(_scaler(), top="globalResourceCap: {maxCpus: 1}\n"), "globalResourceCap"),
        (
            _document(_scaler(), top="machinePools: [{name: x, cap: {}, size: 1}]\n"),
            "machinePools[0]",
        ),
    ],
)
def test_an_unknown_key_where_it_matters_is_a_problem_that_names_it(read, document, where):
    read(document)
    assert read.where == [f"scalers.yaml: {where}"]
    assert "unknown key" in read.what[0]


def test_every_problem_of_every_file_is_reported_at_once(read):
    wrong = _scaler(", uid: x", name="c", sets="{labels: [], image: i}")
    read(
        _document(_scaler(", runtime: lxc")),
        x=f"scalers:\n  - {_scaler(name='b', sets='{labels: [b], image: i}')}\n  - {wrong}\n",
        y="a: [\n",
    )
    assert set(read.where) == {
        "scalers.d/y.yaml",
        "scalers.yaml: scalers[0].runtime",
        "scalers.d/x.yaml: scalers[1].uid",
        "scalers.d/x.yaml: scalers[1].labelSets[0].labels",
    }


# S20, S21, S22, S23
@pytest.mark.parametrize(
    ("scaler", "missing"),
    [
        (_scaler(sets="{labels: [l]}"), ["labelSets[0].image"]),
        (_scaler(sets="{labels: [l]}", kind="bare-metal"), ["labelSets[0].binaryPath"]),
        (
            _scaler(sets="{labels: [l]}", kind="firecracker"),
            [
                "firecrackerPath",
                "jailerPath",
                "kernelPath",
                "uid",
                "gid",
                "labelSets[0].rootfsPath",
            ],
        ),
        (_scaler(kind="event"), ["provisioningTargets"]),
        (_scaler(", provisioningTargets: []", kind="event"), ["provisioningTargets"]),
    ],
)
def test_what_a_type_needs_must_be_there(read, scaler, missing):
    read(_document(scaler))
    assert read.where == [f"scalers.yaml: scalers[0].{each}" for each in missing]


# S21, S23
@pytest.mark.parametrize(
    "scaler",
    [
        _scaler(kind="event", more=", provisioningTargets: [org/infra], claimTtlSeconds: 300"),
        _scaler(
            kind="firecracker",
            more=", firecrackerPath: /f, jailerPath: /j, kernelPath: /k, uid: 0, gid: 0",
            sets="{labels: [vm], rootfsPath: /r}",
        ),
        _scaler(kind="bare-metal"),
    ],
)
def test_what_this_worker_cannot_run_is_checked_and_marked(read, scaler):
    config = read(_document(scaler, _scaler(name="b", sets="{labels: [other], image: i}")))
    assert read.where == []
    assert "nsupported" in config.scalers[0].unsupported
    assert config.scalers[0].unsupported in read.warnings
    assert config.scalers[1].unsupported is None


# S25
def test_a_machine_pool_has_a_unique_file_name_and_exists(read):
    read(_document(_scaler(", machinePool: x"), top="machinePools: [{name: ../x, cap: {}}]\n"))
    assert read.where == [
        "scalers.yaml: machinePools[0].name",
        "scalers.yaml: scalers[0].machinePool",
    ]


def test_a_scaler_name_is_unique_whatever_its_case(read):
    read(_document(_scaler(name="a"), _scaler(name="A", sets="{labels: [x], image: i}")))
    assert read.where == ["scalers.yaml: scalers[1].name"]
    assert "scalers[0]" in read.what[0]


# S33, W20
def test_the_same_label_set_under_two_scalers_is_refused(read):
    read(
        _document(
            _scaler(name="one", sets="{labels: [a, B], image: i}"),
            _scaler(name="two", sets="{labels: [b, A, a], image: i}"),
        )
    )
    assert "label-set overlaps" in read.what[0]
    assert "[a,b]" in read.what[0]


# S33
def test_the_same_label_set_twice_in_one_scaler_and_a_subset_elsewhere_are_fine(read):
    same = "{labels: [a, b], image: i}"
    read(
        _document(
            _scaler(sets=f"{same}, {same}"), _scaler(name="x", sets="{labels: [a], image: i}")
        )
    )
    assert read.where == []


# S24
def test_a_mandatory_label_must_be_in_every_set(read):
    sets = "{labels: [gpu, linux], image: i}, {labels: [linux], image: i}"
    read(_document(_scaler(", mandatoryLabels: [GPU]", sets)))
    assert read.where == ["scalers.yaml: scalers[0].labelSets[1].labels"]
    assert "'gpu'" in read.what[0]


# S26
def test_roles_are_normalised(read):
    sets = [f"{{labels: [{each}], image: i}}" for each in "abcd"]
    config = read(
        _document(
            _scaler(name="a", sets=sets[0]),
            _scaler(", roles: [builder, all]", name="b", sets=sets[1]),
            _scaler(", roles: []", name="c", sets=sets[2]),
            _scaler(", roles: [init-runner, init-runner]", name="d", sets=sets[3]),
        )
    )
    assert [each.roles for each in config.scalers] == [None, None, (), ("init-runner",)]


# S27, S28
def test_resources_are_checked_and_converted_at_load(read):
    sets = (
        "{labels: [l], image: i, resources: {requests: {cpus: 1}, limits: {cpus: 4, memory: 1.5g}}}"
    )
    config = read(_document(_scaler(sets=sets)))
    resources = config.scalers[0].label_sets[0].resources
    assert (resources.requests.cpus, resources.requests.memory_bytes) == (1.0, 0)
    assert (resources.limits.cpus, resources.limits.memory_bytes) == (4.0, 1_610_612_736)
    read(_document(_scaler(sets=sets.replace("1.5g", "1.5gb"))))
    assert read.where == ["scalers.yaml: scalers[0].labelSets[0].resources.limits.memory"]


# S36
@pytest.mark.parametrize(
    ("more", "where"),
    [
        (", maxConcurrentSpawns: 0", ".maxConcurrentSpawns"),
        (", platform: {os: linux}", ".platform.arch"),
        (", platform: {os: beos, arch: x64}", ".platform.os"),
    ],
)
def test_a_wrong_key_of_the_later_version_is_a_problem(read, more, where):
    read(_document(_scaler(more)))
    assert read.where == [f"scalers.yaml: scalers[0]{where}"]


# S36
def test_host_access_rules_are_checked_one_by_one(read):
    policy = 'networkPolicy: {hostAccess: ["*:443", "10.0.0.0/8", "53", "10.0.0.5:*"]}'
    config = read(_document(_scaler(sets=f"{{labels: [l], image: i, {policy}}}")))
    parsed = config.scalers[0].label_sets[0].network_policy
    assert parsed.host_access_rules == ("*:443", "10.0.0.0/8", "53", "10.0.0.5:*")
    assert parsed.host_access is True
    assert config.scalers[0].max_concurrent_spawns == 8
    wrong = policy.replace('"53"', '"db.local:5432"')
    read(_document(_scaler(sets=f"{{labels: [l], image: i, {wrong}}}")))
    assert read.where == ["scalers.yaml: scalers[0].labelSets[0].networkPolicy.hostAccess[2]"]


# S37
def test_a_declared_platform_gates_its_sets_and_needs_no_label_of_its_own(read):
    more = ", platform: {os: macos, arch: arm64}, mandatoryLabels: [macos]"
    config = read(_document(_scaler(more, "{labels: [mac], binaryPath: /a}", "bare-metal")))
    assert read.where == []
    label_set = config.scalers[0].label_sets[0]
    assert set(label_set.gate) == {"macos", "arm64"}
    assert {"kici:os:macos", "kici:os:darwin", "kici:arch:arm64"} < set(label_set.enriched)
    assert {"macos", "arm64"} < set(label_set.enriched)


# S38
def test_a_platform_label_gates_its_own_set_only_with_a_warning(read):
    sets = "{labels: [linux, arm64], image: i}, {labels: [linux], image: i}"
    config = read(_document(_scaler(sets=sets)))
    assert [each.gate for each in config.scalers[0].label_sets] == [("arm64",), ()]
    assert "declare `platform`" in read.warnings


def test_a_process_on_an_arm_host_is_gated_by_it(read):
    config = read(
        _document(_scaler(sets="{labels: [pi], binaryPath: /a}", kind="bare-metal")),
        host=Host("linux", "arm64"),
    )
    assert config.scalers[0].label_sets[0].gate == ("arm64",)
    assert "only jobs that ask for arm64" in read.warnings


def test_no_problem_repeats_what_an_agents_environment_holds(read):
    for env, says in (
        ("{TOKEN: 12345678}", "env.TOKEN: expected a text, found a number; quote it"),
        ("{TOKEN: 1.25e30}", "env.TOKEN: expected a text, found a number; quote it"),
        ("{TOKEN: true}", "env.TOKEN: expected a text, found a boolean; quote it"),
        ("{TOKEN: [12345678]}", "env.TOKEN: expected a text, found a list"),
        ("{TOKEN: }", "env.TOKEN: expected a text, found nothing (null)"),
        ("TOKEN=12345678", "env: expected a mapping of texts, found a text"),
        ("12345678", "env: expected a mapping of texts, found a number"),
    ):
        read(_document(_scaler(sets=f"{{labels: [l], image: i, env: {env}}}")))
        (said,) = (f"{where}: {what}" for where, what in zip(read.where, read.what, strict=True))
        assert said.endswith(says)


def test_a_hostile_file_is_one_problem(read, tmp_path):
    read("\ud800".encode("utf-8", "surrogatepass").decode("latin-1"))
    assert read.where
    (tmp_path / "scalers.yaml").write_bytes(b"\xff\xfe\x00")
    _, problems = read_scalers(str(tmp_path / "scalers.yaml"), None, LINUX)
    assert "not UTF-8" in problems[0].what
    read("version: 1\nscalers: 5\n", a=f"scalers: [{_scaler()}]\n")
    assert read.where == ["scalers.yaml: scalers"]
