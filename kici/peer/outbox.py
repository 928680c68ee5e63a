"""What we promised a coordinator and it has not confirmed as ended, on disk.

Every call that writes returns after fsync; it blocks, so the peer calls it in a thread, and
whatever iterates works on a copy. No
secret is ever in a record. Errors of the disk are ``OSError``.
"""

import contextlib
import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from kici.contracts.link import JobKey
from kici.contracts.link.jobs import OpenJob, OutboxState
from kici.peer import outbox_record as records
from kici.peer.outbox_record import Record
from kici.peer.outbox_urls import Urls
from kici.protocol.urls import spelling_key
from kici.shell import durable

log = logging.getLogger("kici.peer")


class Outbox:
    """Owns: ``<data dir>/worker-outbox``. Told by: the peer's desk, one call at a time."""

    def __init__(
        self, directory: Path, urls: Iterable[str], *, max_age_s: float, wall: Callable[[], float]
    ) -> None:
        self._directory = directory
        self._urls = tuple(urls)
        self._by_spelling = {spelling_key(url): url for url in reversed(self._urls)}
        self._max_age_s = max_age_s
        self._wall = wall
        self._records: dict[JobKey, Record] = {}
        self._known_urls = Urls(directory)
        self.n_expired = 0

    def load(self) -> None:
        """Read every record; a bad one is put aside, never in the way (P57)."""
        durable.make_directory(self._directory)
        self._known_urls.load()
        for path in sorted(self._directory.iterdir()):
            if path.suffix in (records.OPEN, records.CONCLUDED):
                self._load_one(path)
            elif path.suffix == durable.TEMPORARY_SUFFIX:
                with contextlib.suppress(OSError):
                    path.unlink()
        self.prune()
        self._known_urls.forget_others({*self._urls, *(key.owner for key in self._records)})

    def open(self, key: JobKey, coordinator_id: str | None) -> None:
        """The promise: ``key`` ends in a terminal report, whatever happens."""
        if key in self._records:
            return
        at = self._wall()
        name = records.open_name(key, at, coordinator_id)
        path = self._directory / (name or records.stem(key) + records.OPEN)
        record = Record(key, at, path, state_open=True)
        record.coordinator_id = coordinator_id
        if name is not None:
            self._known_urls.keep(key.owner)
            durable.create_empty(path)
        else:
            data = records.encode_open(key, at, coordinator_id)
            durable.write_new(path, data)
            record.n_bytes = len(data)
        self._records[key] = record

    def conclude(self, key: JobKey, message: bytes, coordinator_id: str | None = None) -> bytes:
        """Store the terminal report, return what is to be sent (capped, P72).

        When the disk refuses, the report is kept in memory and ``OSError`` is raised.
        """
        message = records.capped(message)
        before = self._records.get(key)
        if before is not None and not before.state_open:
            # The first end counts: a new pool may conclude once more what an old one did.
            if before.unwritten is None:
                return message
            message = before.unwritten
        stem = records.stem(key)
        path = self._directory / (stem + records.CONCLUDED)
        record = Record(key, self._wall(), path, state_open=False)
        record.coordinator_id = coordinator_id or (before.coordinator_id if before else None)
        record.via = before.via if before else key.owner
        record.unwritten = message
        if before is not None:
            record.promise = before.path if before.state_open else before.promise
        self._records[key] = record
        data = records.encode_concluded(key, record.at, message, record.coordinator_id)
        record.n_bytes = len(data)
        if before is None or before.path != path:
            durable.write_new(path, data)
        else:
            durable.write_atomic(path, data)
        record.unwritten = None
        self._drop_promise(record)  # ``_load_one`` knows what to do with both
        if before is not None and not before.state_open and before.path != path:
            durable.discard(before.path)
        return message

    @property
    def has_unwritten(self) -> bool:
        return any(record.unwritten is not None for record in list(self._records.values()))

    def retry_unwritten(self) -> list[JobKey]:
        """Try again what the disk refused; the keys that are durable now."""
        done = []
        for record in list(self._records.values()):
            if record.unwritten is not None:
                with contextlib.suppress(OSError):
                    self.conclude(record.key, record.unwritten)
                    done.append(record.key)
        return done

    def is_unwritten(self, key: JobKey) -> bool:
        record = self._records.get(key)
        return record is not None and record.unwritten is not None

    def forget(self, key: JobKey) -> bool:
        """The coordinator confirmed: delete; False when there was nothing concluded (P56)."""
        record = self._records.get(key)
        if record is None or record.state_open:
            return False
        if record.unwritten is not None and record.promise is not None:
            # All that the disk knows of the job: a power cut must not bring it back.
            durable.remove(record.promise)
            record.promise = None
        self._drop_promise(record)
        # Without fsync: should a power cut bring it back, it is sent and confirmed once more.
        durable.discard(record.path)
        del self._records[key]
        return True

    def _drop_promise(self, record: Record) -> None:
        """The open record must not outlive the conclusion: a later start would conclude it
        again, as failed."""
        if record.promise is not None:
            durable.discard(record.promise)
            record.promise = None

    def prune(self) -> list[JobKey]:
        """Delete concluded records past their age; whoever waits for them is told."""
        oldest = self._wall() - self._max_age_s
        stale = [r.key for r in list(self._records.values()) if not r.state_open and r.at < oldest]
        pruned = []
        for key in stale:
            try:
                self.forget(key)
                pruned.append(key)
            except OSError as error:
                log.error("Stale outbox record cannot be deleted", extra={"error": str(error)})
                break  # the next would fail as well; they are tried again
        if pruned:
            self.n_expired += len(pruned)
            fields = {"count": len(pruned), "jobIds": [key.job_id for key in pruned[:20]]}
            log.warning("Pruned stale outbox records past TTL", extra=fields)
        return pruned

    def confirmed_key(self, url: str, run_id: str, job_id: str) -> JobKey:
        """The key a receipt on ``url`` means: its own, or that of an orphan it delivers."""
        key = JobKey(owner=url, run_id=run_id, job_id=job_id)
        if key in self._records:
            return key
        for record in list(self._records.values()):
            same = record.key.run_id == run_id and record.key.job_id == job_id
            if same and record.via == url and record.key.owner not in self._urls:
                return record.key
        return key

    def concluded(self, url: str) -> list[JobKey]:
        """What ``url`` must still confirm, oldest first."""
        mine = [r for r in list(self._records.values()) if r.via == url and not r.state_open]
        return [record.key for record in sorted(mine, key=lambda record: record.at)]

    def message(self, key: JobKey) -> bytes | None:
        """The terminal report of ``key``, from disk; None when there is none to read."""
        record = self._records.get(key)
        if record is None or record.state_open:
            return None
        if record.unwritten is not None:
            return record.unwritten
        try:
            return records.decode(record.path.read_bytes(), is_open=False).message
        except (OSError, ValueError) as error:
            log.error("Outbox record cannot be read", extra={"error": str(error)})
            return None

    def adopt_orphans(self, url: str, coordinator_id: str | None, *, any_cluster: bool) -> None:
        """Let ``url`` deliver records of URLs that are configured no more (5.3)."""
        for record in list(self._records.values()):
            if record.key.owner in self._urls:
                continue
            known = coordinator_id is not None and record.coordinator_id == coordinator_id
            if known or (any_cluster and record.via not in self._urls):
                record.via = url

    def keys(self, *, is_open: bool) -> list[JobKey]:
        return [r.key for r in list(self._records.values()) if r.state_open == is_open]

    def state(self, rev: int) -> OutboxState:
        """An end that is in memory only counts as open: a new pool must keep the agent that
        knows it, too, and whatever else it says, the first end counts."""
        everything = list(self._records.values())
        held = [r for r in everything if r.state_open or r.unwritten is not None]
        return OutboxState(
            rev=rev,
            open=tuple(OpenJob(key=r.key, accepted_at=r.at) for r in held),
            n_concluded=len(self._records) - len(held),
            n_bytes=sum(record.n_bytes for record in everything),
            oldest_at=min((record.at for record in everything), default=None),
            oldest_result_at=min((r.at for r in everything if not r.state_open), default=None),
        )

    def _load_one(self, path: Path) -> None:
        is_open = path.suffix == records.OPEN
        try:
            data = path.read_bytes()
            if is_open and not data:
                content = records.decode_open_name(path.name, self._known_urls.meanings(self._urls))
            else:
                content = records.decode(data, is_open=is_open)
        except (OSError, ValueError, RecursionError) as error:
            log.warning(
                "Skipping malformed outbox record", extra={"file": path.name, "error": str(error)}
            )
            with contextlib.suppress(OSError):
                os.replace(path, path.with_name(path.name + records.QUARANTINED))
            return
        found = content.key
        url = found.owner
        if url not in self._urls:
            url = self._by_spelling.get(spelling_key(url), url)
        key = JobKey(owner=url, run_id=found.run_id, job_id=found.job_id)
        record = Record(key, content.at, path, state_open=is_open)
        record.coordinator_id = content.coordinator_id
        record.n_bytes = len(data)
        other = self._records.get(key)
        if other is None or other.state_open:
            # Both exist when a crash came between the two steps of ``conclude``.
            self._records[key] = record
            if other is not None:
                durable.remove(other.path)
        elif is_open:
            durable.remove(path)
