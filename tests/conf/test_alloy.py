"""The Alloy configuration, by a small model of its stages, on lines that our logger wrote."""

import io
import json
import logging
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kici import log

FILE = Path(__file__).resolve().parents[2] / "conf/alloy/kici-worker.alloy"
TEXT = re.sub(r"//.*", "", FILE.read_text())
RUN = "0b8f3c1e-0000-4000-8000-000000000001"


def stages() -> list[tuple[str, dict[str, Any]]]:
    """``(stage, attributes)`` in their order; maps become dictionaries."""
    process = TEXT[TEXT.index("loki.process ") : TEXT.index("loki.write ")]
    return [
        (name, attributes(body))
        for name, body in re.findall(r"stage\.(\w+) \{\n(.*?)\n  \}", process, re.DOTALL)
    ]


def attributes(body: str) -> dict[str, Any]:
    maps = {
        name: dict(re.findall(r'(\w+)\s*=\s*"(\w+)"', inner))
        for name, inner in re.findall(r"(\w+) = \{(.*?)\}", body, re.DOTALL)
    }
    flat = re.sub(r"\w+ = \{.*?\}", "", body, flags=re.DOTALL)
    return {**maps, **dict(re.findall(r'(\w+)\s*=\s*"([^"]*)"', flat))}


def process(line: str) -> tuple[dict[str, str], dict[str, str], datetime, str]:
    """``(labels, structured metadata, time, text)`` as Alloy would send them."""
    extracted: dict[str, Any] = {}
    labels: dict[str, str] = {}
    metadata: dict[str, str] = {}
    at = datetime.now(UTC)
    for name, given in stages():
        if name == "json":
            fields = json.loads(line)
            extracted |= {key: fields.get(source) for key, source in given["expressions"].items()}
        elif name == "timestamp":
            assert given["format"] == "RFC3339Nano"
            at = datetime.fromisoformat(extracted[given["source"]])
        else:
            target = {"labels": labels, "structured_metadata": metadata}[name]
            values = {key: extracted.get(source) for key, source in given["values"].items()}
            target.update({key: str(value) for key, value in values.items() if value is not None})
    return labels, metadata, at, line


@pytest.fixture
def write():
    """Lines as a worker writes them to its pipe."""
    root, stream = logging.getLogger(), io.StringIO()
    before = root.handlers[:], root.level, logging.getLogger("kici").level
    log.setup(instance_id="mac-mini-1", format="json", stream=stream)

    def one(message: str, **extra: Any) -> str:
        logging.getLogger("kici.pool").warning(message, extra=extra)
        return stream.getvalue().splitlines()[-1]

    yield one
    root.handlers[:], root.level = before[0], before[1]
    logging.getLogger("kici").setLevel(before[2])


# seed R57-R59
def test_labels_are_service_and_instance_only(write) -> None:
    labels, _metadata, _at, _text = process(write("hello", jobId="j"))
    assert labels == {"service": "orchestrator", "instance": "mac-mini-1"}


# seed R60-R62
def test_names_of_a_job_are_structured_metadata(write) -> None:
    line = write("Job status update", requestId="q", runId=RUN, jobId="j")
    _labels, metadata, at, text = process(line)
    assert metadata == {"level": "warn", "requestId": "q", "runId": RUN, "jobId": "j"}
    assert abs((datetime.now(UTC) - at).total_seconds()) < 60
    assert text == line


def test_a_line_without_a_job_has_only_its_level(write) -> None:
    _labels, metadata, _at, _text = process(write("Worker started"))
    assert metadata == {"level": "warn"}


def test_the_journal_of_our_unit_is_read_and_every_part_is_connected() -> None:
    assert "_SYSTEMD_UNIT=kici-worker.service" in TEXT
    for target in re.findall(r"forward_to = \[(\S+)\.receiver\]", TEXT):
        kind, name = target.rsplit(".", 1)
        assert f'{kind} "{name}" {{' in TEXT
    assert [name for name, _given in stages()] == [
        "json",
        "timestamp",
        "labels",
        "structured_metadata",
    ]
