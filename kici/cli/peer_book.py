"""Where ``kici-admin peer`` finds tokens and credentials: the coordinator's file on this
machine, or its API."""

import argparse
import os
from pathlib import Path
from time import time
from typing import Any, Protocol
from urllib.parse import quote

from kici.cli.coordinator_client import Coordinator, coordinator_of
from kici.cli.verbs import Failed


class PeerBook(Protocol):
    """What the verbs need. Moments are ISO texts."""

    def mint(self, role: str, life_ms: int, org_id: str, routing_key: str, by: str) -> Any: ...

    def peers(self) -> list[dict[str, Any]]: ...

    def revoke(self, instance_id: str | None) -> int: ...


def peer_book(args: argparse.Namespace) -> PeerBook:
    """The API when a URL is named, else the file."""
    if args.url or os.environ.get("KICI_URL"):
        return _OverHttp(coordinator_of(args))
    return _InFile(args)


class _OverHttp:
    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator

    def mint(self, role: str, life_ms: int, org_id: str, routing_key: str, by: str) -> Any:
        wish = {"role": role, "expiryMs": life_ms, "orgId": org_id, "routingKey": routing_key}
        return self._coordinator.ask("POST", "/api/v1/admin/join-tokens", wish)

    def peers(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._coordinator.ask("GET", "/api/v1/admin/peers")["peers"]
        return found

    def revoke(self, instance_id: str | None) -> int:
        name = "revoke-all" if instance_id is None else f"{quote(instance_id, safe='')}/revoke"
        return int(self._coordinator.ask("POST", f"/api/v1/admin/peers/{name}")["revoked"])


class _InFile:
    """The SQLite file; a running coordinator notices within a second."""

    def __init__(self, args: argparse.Namespace) -> None:
        from kici.coordinator.settings import data_dir_of
        from kici.coordinator.store import FILE_NAME, Store
        from kici.coordinator.tokens import Tokens
        from kici.errors import ConfigError

        data_dir = Path(data_dir_of(os.environ, args.data_dir))
        if not (data_dir / FILE_NAME).exists():
            raise Failed(
                f"no coordinator's database in {data_dir}: start kici-coordinator once, or give"
                " --data-dir or --url"
            )
        try:
            self._tokens = Tokens(Store(data_dir, lambda: int(time() * 1000)))
        except ConfigError as error:
            raise Failed(str(error)) from None

    def mint(self, role: str, life_ms: int, org_id: str, routing_key: str, by: str) -> Any:
        from kici.coordinator.times import iso

        made = _said(lambda: self._tokens.mint(role, life_ms, org_id, routing_key, by))
        return {
            "token": made.token,
            "role": made.role,
            "orgId": made.org_id,
            "routingKey": made.routing_key,
            "expiresAt": iso(made.expires_at),
        }

    def peers(self) -> list[dict[str, Any]]:
        return [row.shown() for row in _said(self._tokens.peers)]

    def revoke(self, instance_id: str | None) -> int:
        return int(_said(lambda: self._tokens.revoke(instance_id)))


def _said(task: Any) -> Any:
    from kici.coordinator.store import StoreError

    try:
        return task()
    except StoreError as error:
        raise Failed(f"database: {error}") from None
