"""A real agent that is asked for its logs (agent spec 2.1.14, 2.2.23)."""

import base64
import io
import json
import logging
import zipfile

from kici.agent.own_logs import MAX_LINE_CHARS, MAX_LINES, OwnLogs

SECRET = "hidden-value-of-the-job"
TOKEN = "an-unusual-token-of-the-agent"


def ask(side, request_id="f1e2", **fields):
    side.send("fleet.logs.request", requestId=request_id, logWindowHours=4, maxBytes=52428800)


def bundle(side, request_id="f1e2"):
    content, seq = b"", 0
    while True:
        chunk = side.until("fleet.bundle.chunk")
        assert (chunk["requestId"], chunk["seq"]) == (request_id, seq)
        content += base64.b64decode(chunk["dataB64"], validate=True)
        if chunk["isLast"]:
            return zipfile.ZipFile(io.BytesIO(content))
        seq += 1


# A84 A93 A94
def test_an_agent_gives_its_log_and_facts_without_a_secret(worker, start_agent):
    start_agent(KICI_AGENT_TOKEN=TOKEN, KICI_LABELS="one,two")
    side = worker.accept()
    side.register()
    ask(side)
    with bundle(side) as idle:
        assert idle.testzip() is None
        assert set(idle.namelist()) == {
            "logs/agent.log", "metrics/metrics.txt", "config/config.json",
            "system/info.json", "manifest.json",
        }  # fmt: skip
        assert b"Registered with orchestrator" in idle.read("logs/agent.log")
        assert b"kici_agent_active_jobs 0" in idle.read("metrics/metrics.txt")
        config = json.loads(idle.read("config/config.json"))
        assert (config["agent_id"], config["labels"]) == ("agent-1", ["one", "two"])
    side.dispatch([{"name": "s", "run": "echo go; sleep 60"}], secrets={"S": SECRET})
    side.until("log.chunk")
    ask(side, "second")
    with bundle(side, "second") as busy:
        assert b"kici_agent_active_jobs 1" in busy.read("metrics/metrics.txt")
        for name in busy.namelist():
            for hidden in (SECRET, TOKEN):
                assert hidden.encode() not in busy.read(name), name
    side.send("job.cancel", messageId="c", runId="run-1", jobId="job-1", reason="enough")
    side.until("job.status", state="cancelled")


def test_the_log_is_kept_in_bounds_and_cut_to_the_window():
    logs = OwnLogs()
    for number in range(MAX_LINES + 50):
        record = logging.LogRecord("x", 20, "", 0, f"{number} " + "y" * 2000, None, None)
        record.created = 1000.0 + number
        logs.emit(record)
    lines = logs.since(0, 10**9).splitlines()
    assert len(lines) == MAX_LINES
    assert max(map(len, lines)) == MAX_LINE_CHARS
    assert len(logs.since(1000.0 + MAX_LINES + 40, 10**9).splitlines()) == 10
    assert len(logs.since(0, 5 * (MAX_LINE_CHARS + 1)).splitlines()) == 5
    assert logs.since(0, 0) == ""
