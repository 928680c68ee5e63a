"""Jobs that attack their agent: each fails with its reason, the agent says so and lives."""

import signal

import pytest

from tests.agent.test_jobs import run, statuses

HELLO = {"run": "echo hello"}


def lines(side):
    return [line for f in side.seen if f["type"] == "log.chunk" for line in f["lines"]]


# A90
@pytest.mark.parametrize(
    ("step", "config", "words"),
    [
        ({"run": "true", "env": {"A": "x\0y"}}, {}, "null byte"),
        (HELLO, {"env": {"A": "x\0y"}}, "null byte"),
        (HELLO, {"jobEnv": {"A=B": "x"}}, "environment variable name"),
        ({"run": "true", "secretEnv": {"A": "S"}}, {}, "null byte"),
    ],
)
def test_a_variable_that_no_process_can_have_fails_the_step(
    worker, start_agent, step, config, words
):
    job = {"native": {"steps": [step]}} | config
    secrets = {"S": "hidden\0value"}
    side, end = run(worker, start_agent, None, jobConfig=job, secrets=secrets)
    assert end["state"] == "failed"
    assert words in end["data"]["error"]
    assert "hidden" not in str(side.seen)
    assert statuses(side) == [(0, "failed")]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("printf 'A=x\\0y\\n' >>$KICI_ENV", "KICI_ENV: NUL byte"),
        ("printf '/a\\0b\\n' >>$KICI_PATH", "KICI_PATH: NUL byte"),
        ("rm $KICI_OUTPUT; mkdir $KICI_OUTPUT", "KICI_OUTPUT: not a regular file"),
        ("rm $KICI_OUTPUT; mkfifo $KICI_OUTPUT", "KICI_OUTPUT: not a regular file"),
        ("head -c 2000000 /dev/zero >$KICI_OUTPUT", "KICI_OUTPUT: more than 1048576 bytes"),
        ("rm -rf $(dirname $KICI_OUTPUT)", "No such file or directory"),
        ("mkfifo $(dirname $KICI_OUTPUT)/step-1-kici_output", "File exists"),
        ("ln -s $HOME/.profile $(dirname $KICI_OUTPUT)/step-1-kici_env", "File exists"),
    ],
)
def test_a_broken_step_file_fails_the_job_and_is_named(worker, start_agent, command, words):
    _side, end = run(worker, start_agent, [{"run": command}, HELLO])
    assert end["state"] == "failed"
    assert words in end["data"]["error"]


def test_a_step_file_that_became_a_link_gives_nothing_of_its_target(worker, start_agent):
    command = "rm $KICI_OUTPUT; ln -s /etc/passwd $KICI_OUTPUT"
    side, end = run(worker, start_agent, [{"run": command}, HELLO])
    assert end["state"] == "success"
    assert "root:" not in str(side.seen)


def test_only_a_line_feed_ends_a_value(worker, start_agent):
    command = "printf 'A=x\\342\\200\\250y\\014z\\nB=1\\r\\n' >>$KICI_OUTPUT"
    _side, end = run(worker, start_agent, [{"name": "s", "run": command}])
    assert end["state"] == "success"
    assert end["data"]["outputs"] == {"s": {"A": "x\u2028y\fz", "B": "1"}}


@pytest.mark.parametrize("limit", ["inf", "nan", "1e400", "-1", "x"])
def test_impossible_limits_count_as_none(worker, start_agent, limit):
    step = HELLO | {"timeoutMs": 1e300}
    job = {"native": {"steps": [step]}, "timeout": 1e300}
    side, end = run(worker, start_agent, None, jobConfig=job, maxLogSizeBytes=limit)
    assert end["state"] == "success"
    assert "hello" in lines(side)


def test_a_step_that_kills_its_agents_children_and_its_directory_ends_cleanly(
    worker, start_agent, tmp_path
):
    steps = [
        {"run": "(setsid sleep 300 &) ; rm -rf $KICI_WORKSPACE; cd /; kill -9 $$"},
        HELLO | {"if": "always"},
    ]
    side, end = run(worker, start_agent, steps)
    assert end["state"] == "failed"
    assert "killed by SIGKILL" in end["data"]["error"]
    assert statuses(side) == [(0, "failed"), (1, "failed")]
    assert not list((tmp_path / "agent").glob("kici-*"))


# A101
@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"repoUrl": "https://[::1/x"}, "repository URL"),
        ({"repoUrl": "https://u:pass\u2100@h/x"}, "repository URL"),
        ({"repoUrl": "file:///a\0b"}, "git is not usable here"),
        ({"jobConfig": {"contentHash": "x", "source": {"file": "a\0b"}}}, "source file"),
    ],
)
def test_a_source_that_nobody_can_name_fails_the_job(worker, start_agent, fields, words):
    agent = start_agent()
    side = worker.accept()
    side.register()
    side.dispatch([HELLO], **fields)
    end = side.until("job.status", state="failed")
    assert words in end["data"]["error"]
    assert "pass" not in str(end)
    agent.signal(signal.SIGTERM)
    side.until_closed()
    assert "Traceback" not in agent.errors()


# A102
def test_a_dispatch_of_endless_depth_does_not_end_the_agent(worker, start_agent):
    start_agent()
    side = worker.accept()
    side.register()
    deep = '{"a":' * 5000 + "1" + "}" * 5000
    side.connection.send('{"type":"job.dispatch","runId":"r","jobId":"j","jobConfig":' + deep + "}")
    side.dispatch([HELLO])
    assert side.until("job.status", state="success")


# A92
def test_a_hundred_megabytes_without_a_line_feed_are_cut_and_bounded(worker, start_agent):
    side, end = run(worker, start_agent, [{"run": "head -c 100000000 /dev/zero | tr '\\0' x"}])
    assert end["state"] == "success"
    found = lines(side)
    assert max(map(len, found)) <= 64 * 1024
    assert "TRUNCATED" in found[-1]


# A90 A92
def test_outputs_that_no_report_can_carry_fail_their_step(worker, start_agent):
    big = r"printf 'A=' >>$KICI_OUTPUT; head -c 500000 /dev/zero | tr '\0' '\1' >>$KICI_OUTPUT"
    side, end = run(worker, start_agent, [{"run": big}] * 9 + [{"run": "true", "if": "always"}])
    assert end["state"] == "failed"
    assert "KICI_OUTPUT: the outputs of this job exceed 3145728 bytes" in end["data"]["error"]
    assert list(end["data"]["outputs"]) == ["step 1"]
    assert [state for _, state in statuses(side)][:3] == ["success", "failed", "skipped"]
    assert max(size for _, size in side.sizes) < 4 * 2**20


# A90 A92
def test_endless_names_and_errors_are_bounded(worker, start_agent):
    steps = [{"run": "true", "name": "n" * 3_000_000, "workdir": "w" * 3_000_000}]
    side, end = run(worker, start_agent, steps)
    assert "step 1: name is longer than 1000 characters" in end["data"]["error"]
    steps[0]["name"] = "short"
    side.dispatch(steps, jobId="job-2")
    end = side.until("job.status", state="failed")
    assert end["data"]["error"].startswith("Step 'short' failed: workdir 'www")
    assert max(size for _, size in side.sizes) < 2**20
