"""Variables, files and URLs that are none: one line that names them, never a traceback."""

import tarfile

import pytest

from kici.cli.daemon import local_url
from kici.cli.verbs import Failed
from tests.cli.test_doctor import environ
from tests.support.command import Ran, run_worker
from tests.support.web_child import WebChild


def one_line(ran: Ran, code: int, *says: str) -> None:
    assert ran.code == code, ran
    assert "Traceback" not in ran.err
    assert len(ran.err.splitlines()) == 1, ran.err
    assert not [word for word in says if word not in ran.err]


def test_a_port_that_is_none_is_named() -> None:
    one_line(run_worker("status", KICI_PORT="abc"), 2, "KICI_PORT", "0 to 65535", "'abc'")
    one_line(run_worker("status", KICI_PORT="0"), 2, "KICI_PORT", "--url")


def test_a_port_is_read_as_the_worker_reads_it() -> None:
    urls = [local_url({"KICI_PORT": text}) for text in ("4e3", "80.0", " 4001 ", "")]
    ports = [4000, 80, 4001, 4000]
    assert urls == [f"http://127.0.0.1:{port}" for port in ports]
    with pytest.raises(Failed, match="KICI_PORT"):
        local_url({"KICI_PORT": "70000"})


def test_the_doctor_examines_a_worker_whose_port_is_none(tmp_path) -> None:
    variables = {**environ(tmp_path, "ws://127.0.0.1:1"), "KICI_PORT": "abc"}
    ran = run_worker("doctor", **variables)
    assert (ran.code, ran.err) == (1, "")
    assert "✗ configuration: KICI_PORT" in ran.out
    assert "✗ worker: cannot be asked: KICI_PORT" in ran.out
    assert "memory" in ran.out


def test_a_bundle_of_a_worker_whose_port_is_none_has_the_reason(tmp_path) -> None:
    path = str(tmp_path / "b.tar.gz")
    ran = run_worker("debug", "bundle", "-o", path, KICI_PORT="abc")
    assert ran.code == 0, ran.err
    with tarfile.open(path) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
        errors = archive.extractfile("kici-worker/errors.txt").read().decode()
    assert names == ["config.json", "doctor.json", "errors.txt"]
    assert "KICI_PORT" in errors


def test_a_bundle_that_fails_leaves_no_file(tmp_path) -> None:
    path = tmp_path / "b.tar.gz"
    for words, code in ((("--url", "http://h:99999"), 2), (("--env-file", "/nonexistent"), 1)):
        one_line(run_worker("debug", "bundle", "-o", str(path), *words), code)
        assert not path.exists()


@pytest.mark.parametrize("verb", ["status", "jobs", "drain", "doctor", "check-config"])
def test_an_environment_file_that_cannot_be_read_is_named(verb: str, tmp_path) -> None:
    one_line(run_worker(verb, "--env-file", "/nonexistent"), 1, "/nonexistent: No such file")
    file = tmp_path / "worker.env"
    file.write_bytes(b"KICI_PORT=4000\n# \xfc\n")
    one_line(run_worker(verb, "--env-file", str(file)), 1, f"{file}: not UTF-8 at byte 17")


@pytest.mark.parametrize("url", ["http://h:99999", "http://[::1", "http://h:x", "ftp://h"])
def test_a_url_that_is_none_is_wrong_usage(url: str) -> None:
    one_line(run_worker("status", "--url", url), 2, url)
    one_line(run_worker("doctor", "--url", url), 2, url)
    words = ("jobs", "--url", url, "--token-file", "/dev/null")
    one_line(run_worker(*words, module="user", KICI_TOKEN="t"), 2, url)
    drained = run_worker("admin", "drain-worker", "--url", url, module="user")
    one_line(drained, 1, f"Failed to connect to worker at {url}")


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/\u00fc", "http://a..b:1", "http://h/a b"])
def test_a_url_that_http_cannot_carry_is_one_line_too(url: str) -> None:
    assert run_worker("status", "--url", url).code in (2, 3)
    for ran in (
        run_worker("status", "--url", url),
        run_worker("jobs", "--url", url, module="user", KICI_TOKEN="t"),
        run_worker("admin", "drain-worker", "--url", url, module="user"),
    ):
        one_line(ran, ran.code, url)


def test_a_token_that_http_cannot_carry_is_not_shown(web: WebChild, url: str) -> None:
    token = "hunter2\nhunter2"
    ran = run_worker("drain", "--url", url, KICI_ADMIN_TOKEN=token)
    one_line(ran, 2, "token")
    others = [
        run_worker("jobs", "--url", url, module="user", KICI_TOKEN=token),
        run_worker("admin", "drain-worker", "--url", url, "--token", token, module="user"),
    ]
    for other in others:
        one_line(other, other.code, "token")
    assert "hunter2" not in "".join(each.err for each in (ran, *others))


def test_setup_without_anybody_to_answer_writes_nothing(tmp_path) -> None:
    one_line(run_worker("setup", "--root", str(tmp_path)), 1, "nothing was answered")
    words = ("--root", str(tmp_path), "--coordinator-url", "ws://c:4000")
    ran = run_worker("setup", *words)  # getpass warns of its own that it cannot hide an answer
    assert (ran.code, "nothing was answered" in ran.err.splitlines()[-1]) == (1, True)
    assert "Traceback" not in ran.err
    assert list(tmp_path.iterdir()) == []


def test_setups_token_file_that_is_no_text_is_named(tmp_path) -> None:
    file = tmp_path / "token"
    file.write_bytes(b"\xff")
    words = ("--coordinator-url", "ws://c:4000", "--token-file", str(file), "--non-interactive")
    one_line(run_worker("setup", "--root", str(tmp_path), *words), 1, str(file))
