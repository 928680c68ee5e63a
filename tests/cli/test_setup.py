import argparse
import io
from pathlib import Path

import pytest

from kici.cli import setup
from kici.cli.envfile import parse
from kici.cli.verbs import Failed

ROOT = Path(__file__).parents[2]


@pytest.fixture
def installed(tmp_path):
    """The files of the package below a root of their own."""
    config = tmp_path / "etc/kici"
    config.mkdir(parents=True)
    for name in ("worker.env", "scalers.yaml"):
        (config / name).write_text((ROOT / "conf" / name).read_text())
    examples = tmp_path / "usr/share/doc/kici-worker/examples"
    examples.mkdir(parents=True)
    for path in (ROOT / "packaging/debian/dropins").glob("*.conf"):
        (examples / path.name).write_text(path.read_text())
    return tmp_path


def _setup(root, *words):
    parser = argparse.ArgumentParser()
    setup.arguments(parser)
    return setup.run(parser.parse_args(["--no-start", "--root", str(root), *words]))


BATCH = ("--non-interactive", "--coordinator-url", "wss://c:4000")


def test_flags_make_a_configuration_that_is_valid(installed, capsys):
    (installed / "token").write_text("kici_join_v1.a.b\n")
    assert _setup(installed, *BATCH, "--token-file", str(installed / "token")) == 0
    env = installed / "etc/kici/worker.env"
    assert parse(env.read_text()) == {"KICI_CLUSTER_COORDINATOR_URL": "wss://c:4000"}
    assert env.stat().st_mode & 0o777 == 0o640
    token = installed / "etc/kici/join-token"
    assert token.read_text() == "kici_join_v1.a.b\n"
    assert token.stat().st_mode & 0o777 == 0o600
    assert "runtime:native" in (installed / "etc/kici/scalers.yaml").read_text()
    dropins = installed / "etc/systemd/system/kici-worker.service.d"
    assert [path.name for path in dropins.iterdir()] == ["host-agents.conf"]


def test_the_same_answers_again_change_nothing(installed):
    _setup(installed, *BATCH)
    before = (installed / "etc/kici/worker.env").read_text()
    _setup(installed, *BATCH, "--force")
    assert (installed / "etc/kici/worker.env").read_text() == before


def test_scalers_that_exist_are_kept_unless_forced(installed):
    _setup(installed, *BATCH)
    with pytest.raises(Failed, match="--force"):
        _setup(installed, *BATCH)


def test_questions_are_asked_and_the_token_is_not_echoed(installed, monkeypatch, capsys):
    answers = iter(["wss://c:4000", "docker", "gpu, linux"])
    monkeypatch.setattr("builtins.input", lambda _question: next(answers))
    monkeypatch.setattr("getpass.getpass", lambda _question: "kici_join_v1.a.b")
    assert _setup(installed) == 0
    scalers = (installed / "etc/kici/scalers.yaml").read_text()
    assert "type: container" in scalers
    assert '["gpu", "linux"]' in scalers
    assert "kici_join" not in capsys.readouterr().out


def test_the_token_comes_from_stdin_too(installed, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("kici_join_v1.c.d\n"))
    _setup(installed, *BATCH, "--token-file", "-")
    assert (installed / "etc/kici/join-token").read_text() == "kici_join_v1.c.d\n"


@pytest.mark.parametrize(
    "text",
    [setup.EPILOG, (ROOT / "packaging/debian/kici-worker.README.Debian").read_text()],
    ids=["help", "README.Debian"],
)
def test_the_example_makes_a_worker_that_gets_jobs_of_kici_run(installed, text):
    command = text[text.index("kici-worker setup --non-interactive") :].replace("\\\n", " ")
    words = command.splitlines()[0].split()[2:]
    where = words.index("--token-file") + 1
    words[where] = str(installed / "token")
    (installed / "token").write_text("kici_join_v1.a.b\n")
    assert _setup(installed, *words) == 0
    (labels,) = (
        line
        for line in (installed / "etc/kici/scalers.yaml").read_text().splitlines()
        if "labels:" in line
    )
    assert '"runtime:native"' in labels


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--non-interactive",), "Coordinator URL"),
        ((*BATCH, "--labels", "a b"), "expected labels"),
        ((*BATCH, "--token-file", "/nowhere"), "No such file"),
        (("--non-interactive", "--coordinator-url", "a b"), "no blanks"),
        (("--non-interactive", "--coordinator-url", "nowhere"), "expected a URL"),
    ],
)
def test_a_wrong_answer_is_refused_with_its_reason(installed, words, says):
    with pytest.raises(Failed, match=says):
        _setup(installed, *words)
