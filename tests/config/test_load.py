import os

import pytest

from kici.config import load, places
from kici.config.enrich import Host
from kici.errors import ConfigError

LINUX = Host("linux", "x64")
#: The example of the seed, with the indentation that its text lost.
SEED = """\
# /etc/kici/scalers.yaml (worker on a Mac mini)
version: 1
scalers:
  - name: mac-mini-containers
    type: container
    maxAgents: 4
    orchestratorUrl: ws://localhost:4000/ws
    labelSets:
      - labels: [self-hosted, macos, arm64]
        image: kici-agent:latest
"""


@pytest.fixture
def environ(tmp_path):
    (tmp_path / "scalers.yaml").write_text(SEED)
    return {
        "HOME": str(tmp_path),
        "KICI_CLUSTER_ROLE": "worker",
        "KICI_CLUSTER_COORDINATOR_URL": "ws://coordinator-host:4000/ws/peer",
        "KICI_CLUSTER_JOIN_TOKEN": "kici_join_v1.xxx.yyy",
        "KICI_CLUSTER_INSTANCE_ID": "mac-mini-1",
        "KICI_SCALER_CONFIG_PATH": str(tmp_path / "scalers.yaml"),
        "KICI_DATA_DIR": str(tmp_path / "data"),
    }


def _problems(environ, **options):
    with pytest.raises(ConfigError) as caught:
        load.load_config(environ, host=LINUX, **options)
    return {each.where: each.what for each in caught.value.problems}


# W24
def test_the_five_variables_and_the_file_of_the_seed_are_a_configuration(environ):
    config = load.load_config(environ, host=LINUX)
    assert config.settings.instance_id == "mac-mini-1"
    assert config.settings.join_token.reveal() == "kici_join_v1.xxx.yyy"
    assert config.settings.port == 4000
    (scaler,) = config.scalers.scalers
    assert (scaler.name, scaler.max_agents) == ("mac-mini-containers", 4)
    assert scaler.label_sets[0].labels == ("self-hosted", "macos", "arm64")


# W25
def test_the_file_of_the_seed_gives_a_warning_where_networks_cannot_be_isolated(environ):
    config = load.load_config(environ, host=Host("darwin", "arm64", has_nft=False))
    assert any("networkIsolation" in warning for warning in config.warnings)


# W35
def test_the_credential_is_kept_below_home_unless_told_otherwise(environ, tmp_path):
    settings = load.load_settings(environ)
    assert settings.credential_file == str(tmp_path / ".kici/peer-credential")
    environ["KICI_CLUSTER_CREDENTIAL_FILE"] = "~/other/credential"
    assert load.load_settings(environ).credential_file == str(tmp_path / "other/credential")


def test_a_credential_directory_that_cannot_be_made_is_a_problem(environ, tmp_path):
    (tmp_path / "file").touch()
    environ["KICI_CLUSTER_CREDENTIAL_FILE"] = str(tmp_path / "file/credential")
    assert "not a directory" in _problems(environ)["KICI_CLUSTER_CREDENTIAL_FILE"]


# W27
def test_a_data_directory_that_cannot_be_made_is_a_problem(environ, tmp_path):
    (tmp_path / "file").touch()
    environ["KICI_DATA_DIR"] = str(tmp_path / "file/data")
    assert "KICI_DATA_DIR" in _problems(environ)
    assert "KICI_DATA_DIR" in _problems(environ, touch=False)


# W37
def test_an_instance_id_is_made_once_and_kept(environ, tmp_path):
    del environ["KICI_CLUSTER_INSTANCE_ID"]
    first = load.load_settings(environ).instance_id
    assert first
    assert load.load_settings(environ).instance_id == first
    file = tmp_path / "data" / places.INSTANCE_ID_FILE
    assert file.read_text().strip() == first
    assert file.stat().st_mode & 0o777 == 0o600


# W37
def test_a_blank_instance_id_counts_as_absent_and_others_are_trimmed(environ):
    environ["KICI_CLUSTER_INSTANCE_ID"] = "  "
    assert len(load.load_settings(environ).instance_id) == 36
    environ["KICI_CLUSTER_INSTANCE_ID"] = " pi 1 "
    assert load.load_settings(environ).instance_id == "pi 1"


def test_looking_creates_nothing(environ, tmp_path):
    before = sorted(os.listdir(tmp_path))
    del environ["KICI_CLUSTER_INSTANCE_ID"]
    config = load.load_config(environ, touch=False, host=LINUX)
    assert config.settings.instance_id == places.NO_INSTANCE_ID_YET
    assert sorted(os.listdir(tmp_path)) == before


# W18
def test_a_missing_scaler_file_is_named(environ):
    environ["KICI_SCALER_CONFIG_PATH"] = "/nowhere/scalers.yaml"
    assert "No such file" in _problems(environ)["/nowhere/scalers.yaml"]


# W12, W19
def test_problems_of_variables_and_files_come_together(environ, tmp_path):
    (tmp_path / "scalers.yaml").write_text(SEED.replace("4\n", "none\n", 1))
    environ["KICI_PORT"] = "x"
    where = {key.rpartition("/")[2] for key in _problems(environ)}
    assert where == {"KICI_PORT", "scalers.yaml: scalers[0].maxAgents"}


# W21, W22, S1
def test_without_a_scaler_file_there_is_a_warning_and_no_scaler(environ, tmp_path):
    del environ["KICI_SCALER_CONFIG_PATH"]
    environ["KICI_SCALER_CONFIG_DIR"] = str(tmp_path / "not-looked-at")
    config = load.load_config(environ, host=LINUX)
    assert config.scalers.scalers == ()
    assert any("KICI_SCALER_CONFIG_PATH" in warning for warning in config.warnings)


# W23
def test_scalers_that_cannot_work_here_are_a_warning(environ, tmp_path):
    (tmp_path / "scalers.yaml").write_text("version: 1\nscalers: []\n")
    config = load.load_config(environ, host=LINUX)
    assert "No scaler backends available in worker mode" in config.warnings


def test_a_coordinator_is_told_which_program_it_is(environ):
    environ["KICI_CLUSTER_ROLE"] = "coordinator"
    del environ["KICI_CLUSTER_COORDINATOR_URL"]
    assert "kici-coordinator" in _problems(environ)["KICI_CLUSTER_ROLE"]
    assert load.load_settings(environ).role == "coordinator"


def test_secrets_come_from_files_too(environ, tmp_path):
    for name in ("ADMIN_TOKEN", "LOKI_PASSWORD", "LOKI_TOKEN"):
        (tmp_path / name).write_text(f"secret of {name}\n")
        environ[f"KICI_{name}_FILE"] = str(tmp_path / name)
    environ["KICI_LOKI_USER"] = "me"
    settings = load.load_settings(environ)
    assert settings.admin_token.reveal() == "secret of ADMIN_TOKEN"
    assert settings.loki_password.reveal() == "secret of LOKI_PASSWORD"
    assert settings.loki_token.reveal() == "secret of LOKI_TOKEN"


def test_a_missing_or_empty_secret_file_is_a_problem(environ, tmp_path):
    (tmp_path / "empty").write_text("\n")
    environ["KICI_ADMIN_TOKEN_FILE"] = str(tmp_path / "empty")
    environ["KICI_LOKI_TOKEN_FILE"] = str(tmp_path / "missing")
    assert set(_problems(environ)) == {"KICI_ADMIN_TOKEN_FILE", "KICI_LOKI_TOKEN_FILE"}


def test_a_join_token_file_is_read_and_may_be_gone(environ, tmp_path):
    del environ["KICI_CLUSTER_JOIN_TOKEN"]
    file = tmp_path / "join"
    environ["KICI_CLUSTER_JOIN_TOKEN_FILE"] = str(file)
    assert load.load_settings(environ).join_token is None
    file.write_text("")
    assert load.load_settings(environ).join_token is None
    file.write_text("kici_join_v1.a.b\n")
    settings = load.load_settings(environ)
    assert settings.join_token.reveal() == "kici_join_v1.a.b"
    assert settings.join_token_file == str(file)


def test_relative_paths_become_absolute_because_the_daemon_may_change_directory(environ):
    environ["KICI_DATA_DIR"] = os.path.relpath(environ["KICI_DATA_DIR"])
    assert os.path.isabs(load.load_settings(environ).data_dir)


def test_the_whole_error_is_one_text_that_names_each_problem(environ):
    environ |= {"KICI_PORT": "x", "KICI_FOO": "1"}
    with pytest.raises(ConfigError) as caught:
        load.load_config(environ, host=LINUX)
    lines = str(caught.value).splitlines()
    assert lines[0] == "Configuration validation failed:"
    assert [line.partition(":")[0] for line in lines[1:]] == ["  - KICI_PORT", "  - KICI_FOO"]


def test_scalers_load_from_settings_alone(environ, tmp_path):
    settings = load.load_settings(environ)
    assert len(load.load_scaler_config(settings, host=LINUX).scalers) == 1
    (tmp_path / "scalers.yaml").write_text("a: [\n")
    with pytest.raises(ConfigError, match="line 2"):
        load.load_scaler_config(settings, host=LINUX)
