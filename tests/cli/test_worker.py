"""``kici-worker`` as a command: verbs, help, exit codes."""

import json
import os
import subprocess
import sys

import pytest

from kici.cli.worker import VERBS
from tests.support.command import ROOT, run_worker


def test_help_names_every_verb() -> None:
    ran = run_worker("--help")
    assert ran.code == 0
    for verb in VERBS:
        assert f"\n    {verb}" in ran.out


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str) -> None:
    ran = run_worker(verb, "--help")
    assert ran.code == 0
    assert f"kici-worker {verb}" in ran.out


def test_an_unknown_verb_is_a_usage_error() -> None:
    ran = run_worker("strat")
    assert ran.code == 2
    assert "'strat'" in ran.err


def test_version_is_shown_for_people_and_machines() -> None:
    assert run_worker("version").out.startswith("kici-worker ")
    assert set(json.loads(run_worker("version", "--json").out)) == {"version", "python", "platform"}


def test_each_command_names_itself_with_the_version() -> None:
    assert run_worker("version", module="coordinator").out.startswith("kici-coordinator 0.")


# W4 W17
def test_a_wrong_configuration_is_one_fatal_line_and_exit_1() -> None:
    ran = run_worker(KICI_CLUSTER_ROLE="worker")
    assert ran.code == 1
    (line,) = ran.out.splitlines()
    fields = json.loads(line)
    assert (fields["level"], fields["message"]) == ("error", "Fatal startup error")
    assert fields["error"].startswith("Configuration validation failed:")
    assert "KICI_CLUSTER_COORDINATOR_URL" in fields["error"]
    assert "KICI_CLUSTER_COORDINATOR_URLS" in fields["error"]


# W12
def test_two_wrong_variables_are_reported_by_one_start() -> None:
    ran = run_worker(KICI_CLUSTER_ROLE="worker", KICI_PORT="abc", KICI_LOG_LEVEL="verbose")
    error = json.loads(ran.out)["error"]
    assert "KICI_PORT" in error
    assert "KICI_LOG_LEVEL" in error


@pytest.mark.parametrize("variable", ["INVOCATION_ID", "NOTIFY_SOCKET"])
def test_a_service_manager_is_told_not_to_restart_us(variable: str) -> None:
    ran = run_worker("run", **{"KICI_CLUSTER_ROLE": "worker", variable: "x"})
    assert ran.code == 78


def test_the_fatal_line_is_in_the_log_files_too_where_there_is_a_directory_for_them(
    tmp_path,
) -> None:
    old = tmp_path / "orchestrator-2001-01-01.log"
    old.write_text("kept: how long is not known yet\n")
    os.utime(old, (1e9, 1e9))
    variables = {"KICI_CLUSTER_ROLE": "worker", "KICI_PORT": "abc", "KICI_LOG_DIR": str(tmp_path)}
    ran = run_worker("run", **variables)
    (file,) = set(tmp_path.glob("orchestrator-*.log")) - {old}
    assert ran.code == 1
    assert file.read_text() == ran.out
    assert "KICI_PORT" in ran.out
    assert old.exists()
    variables["KICI_LOG_DIR"] = "/proc/none"
    assert run_worker("run", **variables).code == 1


def test_the_exit_code_of_a_wrong_configuration_can_be_chosen() -> None:
    assert run_worker("run", "--exit-config", "5", KICI_CLUSTER_ROLE="worker").code == 5


def test_loading_every_verb_imports_nothing_heavy() -> None:
    code = (
        "import sys, kici.cli.worker as w; w.parser();"
        "print([m for m in ('gevent', 'flask', 'docker', 'yaml') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


def test_tokens_are_made_listed_and_revoked(tmp_path) -> None:
    file = str(tmp_path / "tokens")
    made = json.loads(run_worker("token", "create", "--file", file, "--label", "gpu", "--json").out)
    assert made["token"].startswith("kat_")
    assert (tmp_path / "tokens").stat().st_mode & 0o777 == 0o600
    assert made["token"] not in (tmp_path / "tokens").read_text()
    (row,) = json.loads(run_worker("token", "list", "--json", KICI_AGENT_TOKENS_FILE=file).out)
    assert (row["id"], row["labels"]) == (made["id"], ["gpu", "runtime:native"])
    assert run_worker("token", "revoke", made["id"], "--file", file).code == 0
    assert run_worker("token", "revoke", made["id"], "--file", file).code == 1
    assert run_worker("token", "list", "--file", file).out == "No tokens.\n"


def test_without_a_token_file_the_command_says_which_variable() -> None:
    ran = run_worker("token", "list")
    assert ran.code == 1
    assert "KICI_AGENT_TOKENS_FILE" in ran.err
