"""The peer process: the worker's side of every coordinator link."""

import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import gevent

from kici import __version__
from kici.config.model import job_state_dir
from kici.contracts.link.lifecycle import DrainState, Hello, Leave, SnapshotRequest
from kici.contracts.link.logs import AgentLogs, LogsGathered
from kici.contracts.link.views import PoolCapacity
from kici.peer.collection import Collections
from kici.peer.coordinator import Coordinator, Shared
from kici.peer.credentials import Credentials
from kici.peer.desk import PeerDesk
from kici.peer.housekeeping import Housekeeping
from kici.peer.outbox import Outbox
from kici.peer.outflow import Outflow
from kici.peer.publish import Publisher
from kici.peer.spool import Spool
from kici.protocol.heartbeat import advert
from kici.protocol.offers import Offers
from kici.protocol.peer_actions import PeerSettings
from kici.protocol.settings_pull import SettingsPull
from kici.protocol.urls import is_exposed, shown_url
from kici.shell.child import ChildBoot, ChildShell, Received
from kici.shell.host_facts import host_facts

if TYPE_CHECKING:
    from kici.peer.bundle import Worker

log = logging.getLogger("kici.peer")

#: Outstanding receipts are awaited this long before ``peer.leaving`` (5.4).
RECEIPTS_WITHIN_S = 10.0
#: A close handshake may take this long; of the time to leave it must leave some for receipts.
CLOSE_WITHIN_S = 2.0
HANDOVER_CLOSE_S = 0.5
_POLL_S = 0.02


def run(boot: ChildBoot) -> int:
    """The peer child after its fork; returns its exit code."""
    shell = ChildShell(boot)
    try:
        peer = Peer(shell)
    except OSError as error:
        log.error("Peer cannot start", extra={"error": str(error)})
        shell.fail(f"data directory: {error}")
    return peer.serve()


class Peer:
    """Owns: the parts of the peer process and their order at start and end."""

    def __init__(self, shell: ChildShell) -> None:
        settings = shell.config.settings
        self._shell = shell
        self._capacity: PoolCapacity | None = None
        self._draining = False
        urls = tuple(dict.fromkeys(settings.coordinator_urls))
        self._outbox = Outbox(
            Path(job_state_dir(settings)) / "worker-outbox",
            urls,
            max_age_s=settings.outbox_max_age_s,
            wall=time.time,
        )
        self._outbox.load()
        directory = settings.log_spool_dir or os.path.join(settings.runtime_dir, "log-spool")
        self._spool = Spool(Path(directory), urls, settings.log_spool_max_bytes, _wall_ms)
        self._offers = Offers(_wall_ms)
        self._offers.restore(self._outbox.keys(is_open=True), self._outbox.keys(is_open=False))
        self._credentials = Credentials(
            Path(settings.credential_file),
            settings.instance_id,
            settings.join_token.reveal() if settings.join_token else None,
            time.time,
            Path(settings.join_token_file) if settings.join_token_file else None,
        )
        publisher = Publisher(shell)
        self._coordinators: dict[str, Coordinator] = {}
        self._collections = Collections(shell, self._coordinators, self._describe)
        self._desk = PeerDesk(
            shell,
            self._outbox,
            self._spool,
            self._offers,
            publisher,
            self._coordinators,
            self._collections,
        )
        shared = Shared(
            settings=PeerSettings(
                instance_id=settings.instance_id,
                software_version=__version__,
                heartbeat_interval_s=settings.heartbeat_interval_s,
            ),
            credentials=self._credentials,
            pull=SettingsPull(),
            publisher=publisher,
            facts=host_facts,
            max_delay_ms=settings.max_reconnect_delay_s * 1000,
            n_urls=len(urls),
        )
        refund = self._desk.relaying.refund
        for index, url in enumerate(urls):
            outflow = Outflow(url, self._spool, refund)
            self._coordinators[url] = Coordinator(index, url, shared, self._desk, outflow)
        self._housekeeping = Housekeeping(
            shell,
            self._desk,
            self._outbox,
            self._spool,
            self._offers,
            self._credentials,
            self._coordinators,
        )
        self._watch(publisher.worker)
        self._watch(self._desk.disk.worker)

    def serve(self) -> int:
        """Everything until ``leave``."""
        self._announce()
        self._desk.relaying.grant()
        # The pool may have started while the peer before this one was away or hung.
        self._desk.say_outbox_again()
        dialers = [gevent.spawn(each.run) for each in self._coordinators.values()]
        for greenlet in (
            *dialers,
            gevent.spawn(self._keep_time),
            gevent.spawn(self._housekeeping.run),
        ):
            self._watch(greenlet)
        self._shell.ready()
        while True:
            received = self._shell.inbox.get()
            if isinstance(received.body, Leave):
                self._leave(received.body)
                gevent.joinall(dialers, timeout=1.0)
                self._shell.flush(1.0)
                self._spool.close()
                return 0
            self._handle(received)

    def _handle(self, received: Received) -> None:
        if received.sender == "pool":
            self._desk.heard_pool(received.boot_id)
        match received.body:
            case Hello(name="pool"):
                self._collections.pool_started()
                self._desk.pool_started()
            case AgentLogs() | LogsGathered():
                self._collections.heard(received.body, received.fds)
            case Hello(name="web"):
                self._say_everything(to_pool=False)
            case PoolCapacity():
                self._capacity = received.body
                self._advertise()
            case DrainState():
                self._draining = received.body.draining
                self._advertise()
            case SnapshotRequest():
                self._say_everything(to_pool=True)
            case _:
                self._desk.pool_said(received.body)
        self._desk.changed.set()

    def _describe(self) -> "Worker":
        from kici.peer.describe import describe  # rarely wanted, so not in every start

        links = [each.view() for each in self._coordinators.values()]
        return describe(
            self._shell.config,
            links,
            self._capacity,
            self._outbox,
            self._spool,
            draining=self._draining,
        )

    def _advertise(self) -> None:
        offered = advert(self._capacity, draining=self._draining)
        for coordinator in self._coordinators.values():
            coordinator.advertise(offered)

    def _say_everything(self, *, to_pool: bool) -> None:
        for coordinator in self._coordinators.values():
            coordinator.publish()
        self._desk.say_spool()
        if to_pool:
            self._desk.say_outbox_again()
        else:
            self._desk.say_outbox(to_pool=False)

    def _announce(self) -> None:
        urls = list(self._coordinators)
        settings = self._shell.config.settings
        fields = {
            "coordinatorUrls": [shown_url(url) for url in urls],
            "coordCount": len(urls),
            "instanceId": settings.instance_id,
            "port": settings.port,
        }
        log.info("Worker mode — connecting to coordinator(s)", extra=fields)
        if len(urls) == 1:
            log.warning(
                "Only one coordinator URL is configured: right for a single coordinator; of "
                "several that share a database each must be named, or jobs longer than two "
                "minutes are lost"
            )
        for url in filter(is_exposed, urls):
            log.warning("Coordinator link is not protected by TLS", extra={"url": shown_url(url)})
        self._credentials.warn_of_age()

    def _keep_time(self) -> None:
        """Offers the pool does not answer are refused in time."""
        while True:
            deadline = self._offers.deadline
            left = None if deadline is None else deadline - time.monotonic()
            if left is None or left > 0:
                self._desk.changed.wait(left)
                self._desk.changed.clear()
            self._desk.perform(self._offers.tick(time.monotonic()))

    def _leave(self, message: Leave) -> None:
        """Receipts, ``peer.leaving``, close 1000: in this order, and all in time (5.4, P70).

        At a hand-over nobody waits for receipts: what is stored is sent again by the next
        start, within a second. What the pool said last must be stored, though.
        """
        began = time.monotonic()
        close_s = HANDOVER_CLOSE_S if message.handover else CLOSE_WITHIN_S
        close_s = min(close_s, max(0.5, message.within_s - 1))
        within_s = min(RECEIPTS_WITHIN_S, max(0.0, message.within_s - close_s - 1))
        busy = self._unheard if message.handover else self._outstanding
        while time.monotonic() < began + within_s and busy():
            while not self._shell.inbox.empty():
                self._handle(self._shell.inbox.get())
            gevent.sleep(_POLL_S)
        log.info("Broadcasting peer.leaving to all coordinators")
        leaving = [gevent.spawn(each.leave, close_s) for each in self._coordinators.values()]
        gevent.joinall(leaving, timeout=close_s + 1)

    def _unheard(self) -> bool:
        return not (self._desk.disk.is_idle and self._shell.inbox.empty())

    def _outstanding(self) -> bool:
        if self._unheard():
            return True
        return any(
            each.connected and (self._outbox.concluded(url) or not each.outflow.is_empty())
            for url, each in self._coordinators.items()
        )

    def _watch(self, greenlet: gevent.Greenlet) -> None:
        greenlet.link_exception(_crash)


def _crash(greenlet: gevent.Greenlet) -> None:
    """A bug of ours in any part ends the process; the supervisor starts it afresh."""
    log.critical("Peer part failed", extra={"error": repr(greenlet.exception)})
    os._exit(1)


def _wall_ms() -> int:
    return int(time.time() * 1000)
