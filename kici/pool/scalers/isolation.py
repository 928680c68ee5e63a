"""Network isolation of containers: the network, and the packet filter (scaler spec 3.2).

Where ``nft`` cannot be used (missing, no NET_ADMIN, macOS, remote engine) agents still get a
network of their own, and the reason is said once. Only a label set whose ``networkPolicy``
forbids something is refused then: it would run wider open than its author wrote.
"""

import logging
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from urllib.parse import urlsplit

from docker.errors import APIError
from gevent import subprocess
from gevent.lock import BoundedSemaphore

from kici.config.model import NetworkPolicy
from kici.pool.scalers import isolation_rules as rules
from kici.pool.scalers.container_body import MANAGED_LABEL, NETWORK
from kici.pool.scalers.engine import FAILED, EngineError

log = logging.getLogger("kici.pool.container")
_NFT_TIMEOUT_S = 10.0


class NftFailed(Exception):
    """``nft`` said no, or is not there."""


class Isolation:
    """Owns: our nft table's rules. Told by: the container backend.

    ``nft`` is the command; tests run it in the namespace of their engine.
    """

    def __init__(self, scaler_name: str, nft: Sequence[str] = ("nft",)) -> None:
        self._name = scaler_name
        self._nft = tuple(nft)
        self._lock = BoundedSemaphore(1)
        #: Why there is no filter; None: not known yet; empty: there is one.
        self.reason: str | None = None

    def prepare(self, client: Any, on_local_host: bool) -> None:
        """Network and table; ``EngineError`` when the network cannot be made (S100)."""
        _ensure_network(client)
        if self.reason is None:
            self.reason = self._make_table(on_local_host)
            if self.reason:
                log.warning(
                    "Network isolation without packet filter: %s", self.reason,
                    extra={"scaler": self._name},
                )  # fmt: skip

    def check(self, policy: NetworkPolicy | None) -> None:
        """``EngineError`` when ``policy`` forbids what nobody here could stop."""
        if self.reason and policy is not None and _forbids(policy):
            text = f"networkPolicy cannot be enforced: {self.reason}"
            raise EngineError(FAILED, text)

    def admit(self, address: str, policy: NetworkPolicy | None, orchestrator_url: str) -> None:
        """Filter what ``address`` sends from now on; ``EngineError`` when that fails."""
        if self.reason != "":
            return
        try:
            text = rules.rules(address, policy, _port_of(orchestrator_url))
            with self._lock:
                self._remove(self._find(address))
                self._run("-f", "-", text=text)
        except (NftFailed, rules.BadPolicy) as error:
            raise EngineError(FAILED, f"network isolation failed: {error}") from None

    def dismiss(self, address: str | None) -> None:
        """Remove the rules of ``address``; best effort."""
        if self.reason != "" or not address:
            return
        try:
            with self._lock:
                self._remove(self._find(address))
        except NftFailed as error:
            log.warning("nft rules of %s are left: %s", address, error)

    def sweep(self, in_use: Callable[[], Iterable[str]]) -> None:
        """Remove rules of addresses of our network that no container has.

        ``in_use`` is asked after the rules are read, and only what was read goes: whoever is
        admitted meanwhile has newer rules, and no engine was asked about it.
        """
        if self.reason != "":
            return
        try:
            if before := self._find(None):
                kept = set(in_use())
                with self._lock:
                    self._remove(self._find(None, kept) & before)
        except NftFailed as error:
            log.warning("Stale nft rules are left: %s", error)

    def _make_table(self, on_local_host: bool) -> str:
        if not on_local_host:
            return "the engine is on another host"
        try:
            self._run("list", "tables")
            self._run("-f", "-", text=rules.base())
        except NftFailed as error:
            return str(error)
        return ""

    def _find(self, address: str | None, keep: Iterable[str] = ()) -> set[tuple[str, int]]:
        """Chain and handle of the rules of ``address``, or of all addresses but ``keep``."""
        found = set()
        for chain in ("forward", "input"):
            listing = self._run("-a", "list", "chain", *rules.TABLE.split(), chain)
            found |= {(chain, handle) for handle in rules.handles(listing, address, keep)}
        return found

    def _remove(self, found: set[tuple[str, int]]) -> None:
        """In one transaction: all of them or none."""
        lines = [f"delete rule {rules.TABLE} {chain} handle {h}\n" for chain, h in sorted(found)]
        if lines:
            self._run("-f", "-", text="".join(lines))

    def _run(self, *arguments: str, text: str | None = None) -> str:
        try:
            done = subprocess.run(
                [*self._nft, *arguments],
                input=(text or "").encode(),
                capture_output=True,
                timeout=_NFT_TIMEOUT_S,
                check=False,
            )
        except FileNotFoundError:
            raise NftFailed(f"{self._nft[0]} is not installed") from None
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NftFailed(f"{self._nft[0]} cannot be run: {type(error).__name__}") from None
        if done.returncode != 0:
            said = re.sub(r"\s+", " ", done.stderr.decode("utf-8", "replace")).strip()
            raise NftFailed(f"nft {' '.join(arguments[:2])}: {said[:200] or done.returncode}")
        return done.stdout.decode("utf-8", "replace")


def _ensure_network(client: Any) -> None:
    """The network by its exact name: the API's filter matches parts of names."""
    if _lookup(client):
        return
    try:
        client.create_network(
            NETWORK,
            driver="bridge",
            ipam={"Driver": "default",
                  "Config": [{"Subnet": rules.SUBNET, "Gateway": rules.GATEWAY}]},
            labels={MANAGED_LABEL: "true"},
        )  # fmt: skip
    except APIError as error:
        # Another worker was faster (409 in Docker, 500 in some Podmans), or it truly failed.
        if not _lookup(client):
            told = error.explanation or error
            raise EngineError(FAILED, f"network {NETWORK} cannot be made: {told}") from None


def _lookup(client: Any) -> bool:
    return any(one["Name"] == NETWORK for one in client.networks(names=[NETWORK]))


def _forbids(policy: NetworkPolicy) -> bool:
    return policy.deny_all or policy.host_access is not None or bool(policy.host_access_rules)


def _port_of(url: str) -> int | None:
    try:
        parts = urlsplit(url)
        return parts.port or {"ws": 80, "http": 80, "wss": 443, "https": 443}.get(parts.scheme)
    except ValueError:
        return None
