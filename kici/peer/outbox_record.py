"""One outbox record as a file (peer spec 5.3, worker surface 8.3).

Concluded records have the reference's name and layout. Open ones end in ``.open``: it loads
``*.json`` only, so a reference worker on the same directory ignores them.

An open record says everything in its name where its ids are plain and short: an empty file
costs no page of a flash card, and one fsync. The name has a hash for the coordinator's URL;
the URL itself is in ``<hash>.url``, written once.
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import msgspec

from kici.contracts.link import JobKey

CONCLUDED = ".json"
OPEN = ".open"
URL = ".url"
QUARANTINED = ".bad"
#: Largest terminal report we keep and send (P72): far below the frame limit of 25 MiB.
MAX_MESSAGE_BYTES = 4 * 2**20
#: A longer id is replaced by its hash, so that names stay below the 255 bytes of filesystems.
_MAX_ID_BYTES = 90
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
#: Ids that can be told apart in a name whose parts are joined by ``__``.
_PLAIN = re.compile(r"[A-Za-z0-9.-]+(_[A-Za-z0-9.-]+)*")
_MAX_NAME_BYTES = 240


class _Ids(msgspec.Struct, frozen=True, rename="camel"):
    run_id: str
    job_id: str


class _Concluded(msgspec.Struct, frozen=True, rename="camel"):
    coord_url: str
    message: msgspec.Raw
    persisted_at: float
    coordinator_id: str | None = None


class _Open(msgspec.Struct, frozen=True, rename="camel"):
    coord_url: str
    run_id: str
    job_id: str
    accepted_at: float
    coordinator_id: str | None = None


class Content(msgspec.Struct, frozen=True):
    """What a record says; ``message`` None means open. ``at`` is wall-clock seconds."""

    key: JobKey
    at: float
    message: bytes | None
    coordinator_id: str | None


class Record:
    """One job. ``path`` keeps the name it was found under; ``unwritten`` is a terminal report
    that the disk refused so far; ``promise`` the open record that still lies beside it;
    ``via`` the URL that delivers an orphan."""

    __slots__ = (
        *("at", "coordinator_id", "key", "n_bytes", "path"),
        *("promise", "state_open", "unwritten", "via"),
    )

    def __init__(self, key: JobKey, at: float, path: Path, *, state_open: bool) -> None:
        self.key = key
        self.at = at
        self.path = path
        self.state_open = state_open
        self.coordinator_id: str | None = None
        self.n_bytes = 0
        self.unwritten: bytes | None = None
        self.promise: Path | None = None
        self.via = key.owner


_concluded = msgspec.json.Decoder(_Concluded)
_open = msgspec.json.Decoder(_Open)
_ids = msgspec.json.Decoder(_Ids)


def stem(key: JobKey) -> str:
    """The file name without suffix; no id can leave the directory (P58)."""
    return f"{owner_hash(key.owner)}__{_safe(key.run_id)}__{_safe(key.job_id)}"


def owner_hash(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()[:16]


def open_name(key: JobKey, at: float, coordinator_id: str | None) -> str | None:
    """The name that says all of an open record; None when its ids do not fit one."""
    ids = (key.run_id, key.job_id, *([] if coordinator_id is None else [coordinator_id]))
    if not all(_PLAIN.fullmatch(one) for one in ids):
        return None
    owner, last = owner_hash(key.owner), coordinator_id or ""
    name = f"{owner}__{key.run_id}__{key.job_id}__{int(at * 1000)}__{last}{OPEN}"
    return name if len(name) <= _MAX_NAME_BYTES else None


def decode_open_name(name: str, urls: Mapping[str, str]) -> "Content":
    """The content of an open record that is only a name; ``urls`` gives the URL of a hash.
    ``ValueError`` when it is none."""
    parts = name.removesuffix(OPEN).split("__")
    if len(parts) != 5 or not (parts[1] and parts[2] and parts[3].isdecimal()):
        raise ValueError("neither the name nor the content is that of an open record")
    owner, run_id, job_id, at_ms, coordinator_id = parts
    if owner not in urls:
        raise ValueError("the coordinator's URL is not known")
    key = JobKey(owner=urls[owner], run_id=run_id, job_id=job_id)
    return Content(key, int(at_ms) / 1000, None, coordinator_id or None)


def _safe(text: str) -> str:
    name = quote(text, safe="") if _UNSAFE.search(text) else text
    name = name.replace("~", "%7E")
    if not _PLAIN.fullmatch(name):
        name = name.replace("_", "%5F")  # two of them part the ids of a name
    if len(name) <= _MAX_ID_BYTES:
        return name
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def encode_open(key: JobKey, at: float, coordinator_id: str | None) -> bytes:
    record: dict[str, object] = {
        "coordUrl": key.owner,
        "runId": key.run_id,
        "jobId": key.job_id,
        "acceptedAt": int(at * 1000),
    }
    if coordinator_id is not None:
        record["coordinatorId"] = coordinator_id
    return msgspec.json.encode(record)


def encode_concluded(key: JobKey, at: float, message: bytes, coordinator_id: str | None) -> bytes:
    record: dict[str, object] = {
        "coordUrl": key.owner,
        "message": msgspec.Raw(message),
        "persistedAt": int(at * 1000),
    }
    if coordinator_id is not None:
        record["coordinatorId"] = coordinator_id
    return msgspec.json.encode(record)


def decode(data: bytes, *, is_open: bool) -> Content:
    """The content of a record file; ``ValueError`` when it is none."""
    try:
        content = _decode_open(data) if is_open else _decode_concluded(data)
    except msgspec.MsgspecError as error:  # no ValueError in msgspec 0.19
        raise ValueError(str(error)) from error
    key = content.key
    if not (key.owner and key.run_id and key.job_id):
        raise ValueError("empty coordUrl, runId or jobId")
    return content


def _decode_open(data: bytes) -> Content:
    record = _open.decode(data)
    key = JobKey(owner=record.coord_url, run_id=record.run_id, job_id=record.job_id)
    return Content(key, record.accepted_at / 1000, None, record.coordinator_id)


def _decode_concluded(data: bytes) -> Content:
    record = _concluded.decode(data)
    ids = _ids.decode(record.message)
    key = JobKey(owner=record.coord_url, run_id=ids.run_id, job_id=ids.job_id)
    message = bytes(record.message)
    return Content(key, record.persisted_at / 1000, message, record.coordinator_id)


def capped(message: bytes) -> bytes:
    """``message`` itself, or a smaller one that says what is missing (P72)."""
    if len(message) <= MAX_MESSAGE_BYTES:
        return message
    report = msgspec.json.decode(message)
    data = report.get("data")
    data = dict(data) if isinstance(data, dict) else {}
    lost = f"job outputs were dropped: the report of {len(message)} bytes is too large"
    error = data.get("error")
    data["error"] = f"{error[:2000]}; {lost}" if isinstance(error, str) else lost
    data.pop("outputs", None)
    report["data"] = data
    smaller = msgspec.json.encode(report)
    if len(smaller) > MAX_MESSAGE_BYTES:
        report["data"] = {"error": data["error"]}
        smaller = msgspec.json.encode(report)
    return smaller
