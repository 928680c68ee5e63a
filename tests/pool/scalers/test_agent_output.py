"""The output of agents: lines, wrapping, tail (S109, S110)."""

import json

import pytest

from kici.pool.scalers.agent_output import AgentOutput


@pytest.fixture
def output():
    return AgentOutput("a1", "podman")


def written(capfd):
    return [json.loads(line) for line in capfd.readouterr().out.splitlines()]


# S109
def test_lines_split_across_reads_are_joined(output, capfd):
    for piece in (b"on", b"e\r\ntw", b"o\nthr", b"ee"):
        output.feed(piece)
    output.finish()
    assert [row["message"] for row in written(capfd)] == ["one", "two", "three"]


# S109
@pytest.mark.parametrize("text", ["[1]", "5", '"x"', "null", "{broken", "[" * 50_000])
def test_anything_but_an_object_is_wrapped(output, text):
    assert output.wrapped(text) == {
        "level": "info",
        "message": text,
        "service": "agent",
        "agentId": "a1",
        "logsSource": "podman",
    }


# S109
def test_an_object_is_kept_and_our_fields_overwrite_its_own(output):
    found = output.wrapped('{"level":"warn","service":"x","agentId":"y","n":1}')
    assert found == {
        "level": "warn",
        "n": 1,
        "service": "agent",
        "agentId": "a1",
        "logsSource": "podman",
    }


# S110
def test_the_tail_holds_the_last_50_lines_without_tokens(output, capfd):
    output.feed(b"".join(b"line %d\n" % n for n in range(60)))
    output.feed(b"kat_" + b"c" * 64 + b"\n")
    lines = output.tail().splitlines()
    assert (len(lines), lines[0]) == (50, "line 11")
    assert "cccc" not in output.tail() + capfd.readouterr().out


def test_bytes_that_are_no_text_and_lines_without_end_are_bounded(output, capfd):
    output.feed(b"\xff\xfe\n")
    output.feed(b"y" * 600_000)
    assert output.tail().splitlines()[-1] == "y" * 400
    assert len(written(capfd)) == 2
