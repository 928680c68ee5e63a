import io
import json
import logging
import os
import pty
import re
import subprocess
import sys

import pytest

from kici import log, log_lines
from kici.config.model import Secret, Settings

HEX = "ab" * 32


@pytest.fixture(autouse=True)
def logging_as_before():
    root, ours = logging.getLogger(), logging.getLogger("kici")
    before = root.level, ours.level
    yield
    log._replace_handlers([])
    root.setLevel(before[0])
    ours.setLevel(before[1])


@pytest.fixture
def lines():
    """``lines()`` is what was logged so far, parsed."""
    stream = io.StringIO()
    log.setup(instance_id="mac-mini-1", component="pool", stream=stream)
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


# W140
def test_each_line_is_an_object_with_the_fields_of_the_reference(lines):
    logging.getLogger("kici.x").info("Worker started on port %d", 4000)
    (line,) = lines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("timestamp"))
    assert line == {
        "level": "info",
        "message": "Worker started on port 4000",
        "service": "orchestrator",
        "instance": "mac-mini-1",
        "instanceId": "mac-mini-1",
        "kici.instanceId": "mac-mini-1",
        "kici.role": "worker",
        "component": "pool",
    }


def test_keys_are_sorted_in_the_text():
    stream = io.StringIO()
    log.setup(instance_id="i", stream=stream)
    logging.getLogger("kici").info("x", extra={"zebra": 1, "agentId": "a"})
    keys = re.findall(r'"([\w.]+)":', stream.getvalue())
    assert keys == sorted(keys)


# W141
def test_fields_of_a_job_are_at_the_top_level(lines):
    extra = {"requestId": "q", "runId": "r", "jobId": "j", "attempt": 2, "reason": None}
    logging.getLogger("kici.pool.jobs").info("Job accepted", extra=extra)
    (line,) = lines()
    assert (line["requestId"], line["runId"], line["jobId"], line["attempt"]) == ("q", "r", "j", 2)
    assert "reason" not in line


def test_fields_of_the_caller_do_not_replace_ours(lines):
    logging.getLogger("kici.x").info("m", extra={"level": "x", "service": "y", "timestamp": "z"})
    (line,) = lines()
    assert (line["level"], line["service"]) == ("info", "orchestrator")


def test_an_exception_is_two_fields_of_one_line(lines):
    try:
        raise ValueError(f"bad kat_{HEX}")
    except ValueError:
        logging.getLogger("kici.x").exception("Uncaught exception")
    (line,) = lines()
    assert line["level"] == "error"
    assert line["error"] == "ValueError: bad kat_***"
    assert line["stack"].startswith("Traceback")
    assert HEX not in json.dumps(line)


def test_the_component_is_the_process(lines):
    logging.getLogger("kici.peer.outbox").warning("a")
    log_lines.set_component("web")
    logging.getLogger("kici.shell.link").error("b")
    assert [(each["component"], each["level"]) for each in lines()] == [
        ("peer", "warn"),
        ("web", "error"),
    ]


# W143
def test_a_level_suppresses_what_is_below_it():
    stream = io.StringIO()
    log.setup(instance_id="i", level="error", stream=stream)
    logging.getLogger("kici.x").info("no")
    logging.getLogger("kici.x").warning("no")
    logging.getLogger("kici.x").error("yes")
    assert len(stream.getvalue().splitlines()) == 1


def test_other_packages_are_heard_from_warn_on():
    stream = io.StringIO()
    log.setup(instance_id="i", level="debug", stream=stream)
    logging.getLogger("urllib3").info("no")
    logging.getLogger("urllib3").warning("yes")
    logging.getLogger("kici.x").debug("yes")
    assert len(stream.getvalue().splitlines()) == 2


# W145
def test_no_secret_is_written_wherever_it_stands(lines):
    logging.getLogger("kici.x").info(
        "kat_%s and kici_join_v1.a.b",
        HEX,
        extra={
            "url": "wss://u:hunter2@h/ws/peer",
            "token": "hunter2",
            "credential": HEX,
            "found": HEX,
            "settings": Settings(
                role="worker",
                coordinator_urls=(),
                join_token=Secret("hunter2"),
                credential_file="c",
                instance_id="i",
                data_dir="d",
                runtime_dir="r",
            ),
            "headers": {"Authorization": "Bearer hunter2hunter2"},
        },
    )
    text = json.dumps(lines())
    assert "hunter2" not in text
    assert HEX not in text
    assert "join_v1.a" not in text


def test_odd_values_never_break_a_line(lines):
    logger = logging.getLogger("kici.x")
    logger.info("surrogate \udc80", extra={"nan": float("nan"), "bytes": b"\xff", "o": object()})
    logger.info("x" * 100_000)
    first, second = lines()
    assert "bytes" in first
    assert len(second["message"]) < 17_000


@pytest.mark.parametrize(
    ("format", "is_json"),
    [("json", True), ("plain", False), ("auto", True)],
)
def test_a_pipe_gets_json_unless_plain_is_asked_for(format, is_json):
    stream = io.StringIO()
    log.setup(instance_id="i", format=format, stream=stream)
    logging.getLogger("kici").info("hello")
    assert stream.getvalue().startswith("{") == is_json


def _on_a_terminal(format, **environ):
    """What a terminal shows of a process that logs a warning."""
    program = (
        "import logging; from kici import log;"
        f"log.setup(instance_id='i', component='pool', format={format!r});"
        "logging.getLogger('kici').warning('hello\\x1b[2J',"
        " extra={'requestId': '0123456789', 'jobId': 'j', 'text': 'two words'})"
    )
    leader, follower = pty.openpty()
    try:
        with os.fdopen(follower, "w") as terminal:
            subprocess.run(
                [sys.executable, "-c", program],
                stdout=terminal,
                check=True,
                timeout=30,
                env={"PATH": os.environ["PATH"], "PYTHONPATH": ".", "TERM": "xterm", **environ},
            )
            return os.read(leader, 10_000).decode()
    finally:
        os.close(leader)


# W142
def test_a_terminal_gets_text_in_colour_unless_json_is_asked_for():
    text = _on_a_terminal("auto")
    assert text.startswith('\x1b[33mpool warn 01234567 hello\\x1b[2J jobId=j text="two words"')
    assert _on_a_terminal("json").startswith("{")
    assert "\x1b" not in _on_a_terminal("auto", NO_COLOR="1")


# W144
def test_settings_add_files_named_after_the_instance(tmp_path):
    settings = Settings(
        role="worker",
        coordinator_urls=(),
        credential_file="c",
        instance_id="pi 1/ä",
        data_dir="d",
        runtime_dir="r",
        log_dir=str(tmp_path),
        log_level="warn",
    )
    stream = io.StringIO()
    log.setup(settings, component="peer", stream=stream)
    logging.getLogger("kici.x").warning("to both")
    (file,) = tmp_path.glob("*.log")
    assert re.fullmatch(r"orchestrator-pi_1__-\d{4}-\d\d-\d\d\.log", file.name)
    assert file.read_text() == stream.getvalue()


# W150
def test_a_reader_that_goes_away_does_not_kill_the_writer():
    program = (
        "import logging, sys, time; from kici import log; log.setup(instance_id='i');"
        "[logging.getLogger('kici').info('x' * 1000) for _ in range(500)];"
        "print('survived', file=sys.stderr)"
    )
    read, write = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": "."},
    )
    os.close(write)
    assert os.read(read, 100)
    os.close(read)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "survived\n")


def test_problems_are_lines_on_a_terminal_and_a_list_in_json(lines):
    problems = ["KICI_PORT: bad", "scalers.yaml: odd\n  - KICI_FAKE: \x1b[31mtext of others"]
    extra = {"error": "failed:\n  - KICI_PORT: bad", "problems": problems}
    logging.getLogger("kici.supervisor").error("Fatal startup error", extra=extra)
    assert lines()[0]["problems"] == problems
    assert lines()[0]["error"] == extra["error"]
    stream = io.StringIO()
    log.setup(stream=stream, format="plain")
    logging.getLogger("kici.supervisor").error("Fatal startup error", extra=extra)
    assert stream.getvalue().splitlines() == [
        "supervisor error Fatal startup error",
        "  - KICI_PORT: bad",
        r"  - scalers.yaml: odd\n  - KICI_FAKE: \x1b[31mtext of others",
    ]
