import json
import os
import subprocess
import sys

import pytest

from kici.cli import envfile
from kici.cli.check_config import check_config

SCALERS = """\
version: 1
scalers:
  - name: pi
    type: bare-metal
    maxAgents: 2
    platform: {os: linux, arch: arm64}
    labelSets:
      - labels: [Self-Hosted]
        binaryPath: /usr/bin/kici-agent
"""


@pytest.fixture
def environ(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("KICI_")]:
        monkeypatch.delenv(name)
    (tmp_path / "scalers.yaml").write_text(SCALERS)
    values = {
        "KICI_CLUSTER_ROLE": "worker",
        "KICI_CLUSTER_COORDINATOR_URL": "wss://user:hunter2@c:4000",
        "KICI_CLUSTER_JOIN_TOKEN": "kici_join_v1.secret.secret",
        "KICI_SCALER_CONFIG_PATH": str(tmp_path / "scalers.yaml"),
        "KICI_DATA_DIR": str(tmp_path / "data"),
        "KICI_AGENT_ENV_PROXY": "http://u:hunter2@p",
        "KICI_AGENT_TOKEN_TTL_MS": "90000",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return values


def test_a_good_configuration_is_shown_with_enriched_labels_and_no_secret(
    environ, capsys, tmp_path
):
    assert check_config([]) == 0
    out = capsys.readouterr().out
    assert "OK" in out.splitlines()[-1]
    assert "self-hosted kici:os:linux kici:arch:arm64 kici:agent:bare-metal" in out
    assert "wss://***@c:4000" in out
    assert "hunter2" not in out
    assert "kici_join_v1.secret" not in out
    assert not (tmp_path / "data").exists()


def test_json_has_the_values_in_the_units_of_their_variables(environ, capsys):
    assert check_config(["--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["ok"] is True
    assert shown["settings"]["KICI_AGENT_TOKEN_TTL_MS"] == 90000
    assert shown["settings"]["KICI_DRAIN_TIMEOUT"] == "300s"
    assert shown["settings"]["KICI_CLUSTER_JOIN_TOKEN"] == "***"
    assert shown["settings"]["KICI_AGENT_ENV_PROXY"] == "***"
    (label_set,) = shown["scalers"][0]["labelSets"]
    assert label_set["gate"] == ["arm64"]
    assert label_set["labels"] == ["self-hosted"]


# W12, W17, W19
def test_problems_are_listed_with_their_place_and_the_exit_code_is_1(
    environ, capsys, monkeypatch, tmp_path
):
    monkeypatch.setenv("KICI_PORT", "abc")
    (tmp_path / "scalers.yaml").write_text(SCALERS.replace("maxAgents: 2", "maxAgents: two"))
    assert check_config([]) == 1
    out = capsys.readouterr().out
    assert "KICI_PORT: expected a whole number from 0 to 65535, found 'abc'" in out
    assert "scalers[0].maxAgents" in out
    assert "2 problems" in out
    assert check_config(["--json"]) == 1
    shown = json.loads(capsys.readouterr().out)
    assert [each["where"].rpartition(" ")[2] for each in shown["problems"]] == [
        "KICI_PORT",
        "scalers[0].maxAgents",
    ]


def test_variables_come_from_a_file_when_asked(environ, capsys, tmp_path):
    file = tmp_path / "worker.env"
    file.write_text("# comment\nKICI_PORT='4321'\n")
    assert check_config(["--env-file", str(file)]) == 0
    assert "4321" in capsys.readouterr().out
    assert check_config(["--env-file", str(tmp_path / "missing")]) == 1
    assert "missing" in capsys.readouterr().err


def test_it_is_a_verb_of_kici_worker(environ, tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from kici.cli.worker import main; main()",
            "check-config",
            "--json",
        ],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ok"] is True


@pytest.mark.parametrize(("exists", "said"), [(True, "try sudo"), (False, "there is no")])
def test_a_bare_shell_is_told_which_file_was_not_read(
    environ, monkeypatch, capsys, tmp_path, exists, said
):
    for name in environ:
        monkeypatch.delenv(name)
    path = tmp_path / "worker.env"
    if exists:
        path.write_text("KICI_CLUSTER_ROLE=worker\n")
    monkeypatch.setattr(envfile, "DEFAULT_FILE", str(path))
    # Root may read everything: what the kernel would say to others is said here.
    monkeypatch.setattr(envfile.os, "access", lambda *_: False)
    assert check_config([]) == 1
    hint = capsys.readouterr().out.splitlines()[-1]
    assert hint.startswith("hint: ")
    assert str(path) in hint
    assert said in hint
    assert check_config(["--json"]) == 1
    assert said in json.loads(capsys.readouterr().out)["hint"]


def test_a_shell_of_a_worker_gets_no_hint(environ, monkeypatch, capsys):
    monkeypatch.delenv("KICI_CLUSTER_COORDINATOR_URL")
    assert check_config([]) == 1
    assert "hint" not in capsys.readouterr().out
