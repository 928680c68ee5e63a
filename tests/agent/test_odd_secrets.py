"""Secrets of odd shapes in the output of real steps: nothing of them may get out (A93)."""

import base64

import pytest

from tests.agent.test_jobs import run

SHAPES = {
    "regex": "a.*(b|c)+[d]{2}$^\\Q",
    "lines": "-----BEGIN KEY-----\nabcdefgh1234\nijklmnop5678\n-----END KEY-----\n",
    "crlf": "first-line\r\nsecond-line",
    "unicode": "pässwörd-\U0001f511-ключ",
    "spaces": "  padded secret  ",
    "quotes": 'it\'s "quoted" $HOME `id` %s',
    "long": "0123456789abcdef" * 5000,
    "repeated": "aaaaaaaa",
    "slashes": "a/b+c=d&e f?g",
}


def said(side):
    return str([f for f in side.seen if f["type"] != "job.context"])


# A93
@pytest.mark.parametrize("shape", list(SHAPES))
def test_a_secret_is_masked_whatever_it_looks_like(worker, start_agent, shape):
    secret = SHAPES[shape]
    code = (
        "import base64, json, os, sys, urllib.parse\n"
        "s = os.environ['S']\n"
        "print(s); print('x' + s + 'y'); print(urllib.parse.quote(s, safe=''))\n"
        "print(base64.b64encode(s.encode()).decode())\n"
        "print(s, file=sys.stderr)\n"
        "for c in s[:300]: sys.stdout.write(c); sys.stdout.flush()\n"
        "sys.stdout.write(s[300:] + '\\n')\n"
        "sys.exit(f'failed with {s[:100]}') if len(s) < 100 else None\n"
    )
    step = {"name": "show", "run": code, "shell": "python", "secretEnv": {"S": "S"}}
    side, _end = run(worker, start_agent, [step], secrets={"S": secret})
    text = said(side)
    pieces = [line.strip() for line in secret.splitlines() if len(line.strip()) > 2]
    pieces.append(base64.b64encode(secret.encode()).decode())
    for piece in pieces:
        assert piece[:2000] not in text
        assert repr(piece[:2000])[1:-1] not in text
    assert "***" in text


# A93
def test_overlapping_and_nested_secrets_leave_no_rest(worker, start_agent):
    secrets = {"A": "abcdef", "B": "defghi", "C": "cdefg", "D": "xxabcdefghiyy"}
    command = "echo abcdefghi; echo xxabcdefghiyy; echo zabcdefz; echo abcdefabcdef"
    side, _end = run(worker, start_agent, [{"run": command}], secrets=secrets)
    lines = [line for f in side.seen if f["type"] == "log.chunk" for line in f["lines"]]
    assert lines == ["***", "***", "z***z", "******"]


# A93
def test_a_thousand_secrets_and_much_output_stay_affordable(worker, start_agent):
    secrets = {f"S{n}": f"secret-number-{n:05d}" for n in range(1000)}
    command = "seq 1 200000; echo secret-number-00999"
    side, end = run(worker, start_agent, [{"run": command}], secrets=secrets)
    assert end["state"] == "success"
    assert end["data"]["durationMs"] < 60_000  # its square would be hours
    assert "secret-number-00999" not in said(side)


# A93
def test_a_repeated_secret_in_repeated_output_is_no_trap(worker, start_agent):
    """Each place of ``aaaa…`` matches: the cost must not be their square."""
    command = "head -c 5000000 /dev/zero | tr '\\0' a; echo"
    side, end = run(worker, start_agent, [{"run": command}], secrets={"S": "a" * 3000})
    assert end["state"] == "success"
    assert end["data"]["durationMs"] < 60_000  # its square would be hours
    assert "aaaa" not in said(side)


# A93
@pytest.mark.parametrize("line", ['"$S"', '"A<<$S"', '"$S<<END"'])
def test_a_step_file_that_cannot_be_read_shows_nothing_of_its_lines(worker, start_agent, line):
    secret = "it's-a\\value-" + "0123456789" * 8
    step = {"run": f"echo A=1 >>$KICI_ENV; echo {line} >>$KICI_ENV", "secretEnv": {"S": "S"}}
    side, end = run(worker, start_agent, [step], secrets={"S": secret})
    assert "KICI_ENV: line 2" in end["data"]["error"]
    assert "value-" not in said(side)
    assert "0123456789" not in said(side)
