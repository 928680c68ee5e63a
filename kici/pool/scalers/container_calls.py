"""Requests to the engine, as the container backend needs them: one error type, plain answers."""

import contextlib
from collections.abc import Iterator
from typing import Any

import gevent
import msgspec

from kici.pool.scalers import container_body as made
from kici.pool.scalers.engine import MISSING, TRANSPORT, Engine, EngineError, classify

#: Added to a stop's own grace time: the engine kills after it.
_STOP_SLACK_S = 2.0
_ALIVE = frozenset({"running", "paused", "restarting", "stopping"})
_ENDED = frozenset({"exited", "dead", "stopped"})


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One container that carries our labels."""

    container_id: str
    agent_id: str
    alive: bool
    #: It ran and does not any more; one that is being created is neither.
    ended: bool
    address: str
    job_id: str | None = None
    run_id: str | None = None
    labels: tuple[str, ...] = ()


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """How a container is or ended."""

    alive: bool
    exit_code: int | None = None
    out_of_memory: bool = False
    error: str = ""

    def text(self) -> str:
        """For people."""
        if self.exit_code is None:
            return "container is gone"
        why = " (out of memory)" if self.out_of_memory else ""
        if not why and self.exit_code == 137:
            why = " (killed, perhaps for its memory limit)"
        error = f": {self.error}" if self.error else ""
        return f"exit code {self.exit_code}{why}{error}"


class Calls:
    """Owns: nothing. Every method raises ``EngineError`` and tells the engine when it is
    away."""

    def __init__(self, engine: Engine, owner: str, scaler_name: str) -> None:
        self._engine = engine
        self._mine = [
            f"{made.MANAGED_LABEL}=true",
            f"{made.OWNER_LABEL}={owner}",
            f"{made.SCALER_LABEL}={scaler_name}",
        ]

    @contextlib.contextmanager
    def _asking(self) -> Iterator[Any]:
        client = self._engine.client()
        try:
            yield client
        except TRANSPORT as error:
            known = classify(error)
            self._engine.failed(client, known)
            raise known from None

    def create(self, body: dict[str, Any], name: str) -> str:
        """The id of the new container."""
        with self._asking() as client:
            return str(client.create_container_from_config(body, name)["Id"])

    def start(self, container: str) -> None:
        with self._asking() as client:
            client.start(container)

    def stop(self, container: str, grace_s: float) -> None:
        """Ask the container to end, for at most ``grace_s``; silent when it is gone."""
        bound = gevent.Timeout(grace_s + _STOP_SLACK_S, False)
        with contextlib.suppress(EngineError), bound, self._asking() as client:
            client.stop(container, timeout=max(0, round(grace_s)))

    def remove(self, container: str) -> None:
        """Kill and remove with its anonymous volumes; done when it is not there."""
        try:
            with self._asking() as client:
                client.remove_container(container, force=True, v=True)
        except EngineError as error:
            # 409: another request removes it right now; asked again by our caller.
            if error.kind != MISSING:
                raise

    def state(self, container: str) -> Ended:
        """How ``container`` is; a missing one is gone."""
        try:
            state = self._inspect(container)["State"]
        except EngineError as error:
            if error.kind != MISSING:
                raise
            return Ended(alive=False)
        return Ended(
            alive=state.get("Status") in _ALIVE,
            exit_code=state.get("ExitCode"),
            out_of_memory=bool(state.get("OOMKilled")),
            error=str(state.get("Error") or "")[:300],
        )

    def address(self, container: str) -> str:
        """Its IPv4 address on our network, empty when it has none."""
        networks = self._inspect(container)["NetworkSettings"].get("Networks") or {}
        return str((networks.get(made.NETWORK) or {}).get("IPAddress") or "")

    def mine(self, agent_id: str | None = None) -> list[Seen]:
        """Containers of this worker and scaler, in any state (3.10, R)."""
        extra = [] if agent_id is None else [f"{made.AGENT_LABEL}={agent_id}"]
        return self._list([*self._mine, *extra])

    def addresses(self) -> set[str]:
        """Addresses on our network of all agents of all workers; for the sweep of rules. All
        of them or an error: the rules of an address that is not named are removed."""
        found = set()
        for one in self._list([f"{made.MANAGED_LABEL}=true"]):
            if one.alive:
                found.add(one.address or self._address_or_gone(one.container_id))
        return found

    def _address_or_gone(self, container: str) -> str:
        try:
            return self.address(container)
        except EngineError as error:
            if error.kind != MISSING:
                raise
            return ""

    def gateway(self, network: str) -> str | None:
        """The first gateway of ``network``; None when it says none."""
        with self._asking() as client:
            found = client.inspect_network(network)
        for config in (found.get("IPAM") or {}).get("Config") or ():
            if config.get("Gateway"):
                return str(config["Gateway"])
        return None

    def output(self, container: str, *, adopted: bool) -> Any:
        """The output of ``container``, followed to its end; to be closed. Of an adopted one
        only the last lines and what comes."""
        with self._asking() as client:
            return client.logs(container, stream=True, follow=True, tail=50 if adopted else "all")

    def events(self) -> Any:
        """What happens to our containers; to be closed. Not filtered by event: Podman and
        Docker call the end by different names."""
        filters = {"type": "container", "label": self._mine}
        with self._asking() as client:
            return client.events(filters=filters, decode=True)

    def _inspect(self, container: str) -> dict[str, Any]:
        with self._asking() as client:
            return dict(client.inspect_container(container))

    def _list(self, labels: list[str]) -> list[Seen]:
        with self._asking() as client:
            rows = client.containers(all=True, filters={"label": labels})
        return [_seen(row) for row in rows]


def _seen(row: dict[str, Any]) -> Seen:
    labels = row.get("Labels") or {}
    networks = (row.get("NetworkSettings") or {}).get("Networks") or {}
    return Seen(
        container_id=row["Id"],
        agent_id=labels.get(made.AGENT_LABEL, ""),
        alive=row.get("State") in _ALIVE,
        ended=row.get("State") in _ENDED,
        address=str((networks.get(made.NETWORK) or {}).get("IPAddress") or ""),
        job_id=labels.get(made.JOB_LABEL),
        run_id=labels.get(made.RUN_LABEL),
        labels=tuple(filter(None, labels.get(made.LABELS_LABEL, "").split(","))),
    )


def close_stream(stream: Any) -> None:
    """Close a followed stream whatever state it is in."""
    with contextlib.suppress(*TRANSPORT, AttributeError, ValueError):
        stream.close()
    response = getattr(stream, "_response", None)
    if response is not None:
        response.close()
