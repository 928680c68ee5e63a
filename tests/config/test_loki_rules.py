"""What can never reach Loki is said when the configuration is read, by the variable's name."""

import subprocess

import pytest

from kici.config import load
from kici.errors import ConfigError


@pytest.fixture
def environ(tmp_path):
    return {
        "HOME": str(tmp_path),
        "KICI_CLUSTER_COORDINATOR_URL": "ws://c:4000",
        "KICI_DATA_DIR": str(tmp_path / "data"),
        "KICI_LOKI_URL": "https://loki:3100",
    }


def problems(environ):
    try:
        load.load_settings(environ, touch=False)
    except ConfigError as error:
        return {each.where: each.what for each in error.problems}
    return {}


@pytest.mark.parametrize(
    ("changes", "where", "says"),
    [
        ({"KICI_LOKI_TENANT": "a\u20acb"}, "KICI_LOKI_TENANT", "printable ASCII"),
        ({"KICI_LOKI_TOKEN": "hunter2\nx"}, "KICI_LOKI_TOKEN", "character at place 8 of 9"),
        ({"KICI_LOKI_TOKEN": "hunter2\u20ac"}, "KICI_LOKI_TOKEN", "character at place 8 of 8"),
        ({"KICI_LOKI_USER": "me"}, "KICI_LOKI_USER", "KICI_LOKI_PASSWORD_FILE beside it"),
        ({"KICI_LOKI_PASSWORD": "hunter2"}, "KICI_LOKI_PASSWORD", "KICI_LOKI_USER beside it"),
        ({"KICI_LOKI_URL": "http://u:hunter2@loki"}, "KICI_LOKI_URL", "KICI_LOKI_USER and"),
        ({"KICI_LOKI_URL": "http://\u00fc..x"}, "KICI_LOKI_URL", "a host's name"),
        ({"KICI_LOKI_URL": "http://a..b:3100"}, "KICI_LOKI_URL", "a host's name"),
        ({"KICI_LOKI_URL": "http://loki/\u00fc"}, "KICI_LOKI_URL", "printable ASCII"),
        ({"KICI_LOKI_CA_FILE": "/nonexistent/ca"}, "KICI_LOKI_CA_FILE", "No such file"),
        ({"KICI_LOKI_CA_FILE": "/dev/zero"}, "KICI_LOKI_CA_FILE", "no regular file"),
        ({"KICI_LOKI_CA_FILE": "/etc/passwd"}, "KICI_LOKI_CA_FILE", "in /etc/passwd, found"),
        ({"KICI_LOKI_CA_FILE": "/etc"}, "KICI_LOKI_CA_FILE", "in /etc, found"),
    ],
)
def test_what_can_never_be_sent_names_its_variable_and_no_secret(environ, changes, where, says):
    found = problems({**environ, **changes})
    assert list(found) == [where]
    assert says in found[where]
    assert "hunter2" not in found[where]


def test_a_secret_from_a_file_is_named_by_the_variable_of_the_file(environ, tmp_path):
    (tmp_path / "token").write_text("hunter2\nhunter2")
    environ["KICI_LOKI_TOKEN_FILE"] = str(tmp_path / "token")
    environ["KICI_LOKI_PASSWORD_FILE"] = str(tmp_path / "token")
    assert set(problems(environ)) == {"KICI_LOKI_TOKEN_FILE", "KICI_LOKI_PASSWORD_FILE"}


def test_a_password_file_that_cannot_be_read_is_one_problem(environ):
    environ |= {"KICI_LOKI_USER": "me", "KICI_LOKI_PASSWORD_FILE": "/nonexistent/password"}
    assert list(problems(environ)) == ["KICI_LOKI_PASSWORD_FILE"]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"KICI_LOKI_URL": "http://b\u00fccher.example:3100/sub"},
        {"KICI_LOKI_URL": "https://[::1]:3100", "KICI_LOKI_TENANT": "team 1"},
        {"KICI_LOKI_USER": "m\u00fcller", "KICI_LOKI_PASSWORD": "h\u00fcnter"},
        {"KICI_LOKI_URL": "", "KICI_LOKI_USER": "me", "KICI_LOKI_CA_FILE": "/nonexistent"},
    ],
)
def test_what_can_be_sent_is_no_problem(environ, changes):
    assert problems({**environ, **changes}) == {}


def test_a_file_with_a_certificate_is_no_problem(environ, tmp_path):
    pem, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    options = ["-subj", "/CN=loki", "-keyout", str(key), "-out", str(pem)]
    subprocess.run([*make, *options], check=True, capture_output=True, timeout=60)
    assert problems({**environ, "KICI_LOKI_CA_FILE": str(pem)}) == {}
