"""The scaler backends by configured type, imported when they are first needed."""

import importlib
from collections.abc import Callable
from typing import Any

import msgspec

from kici.config.model import Scaler, WarmPool
from kici.errors import ConfigError
from kici.pool.scalers.base import Backend, Held, Report

#: ``type`` of a scaler -> module and class. A new backend is one line here.
BACKENDS: dict[str, tuple[str, str]] = {
    "container": ("kici.pool.scalers.container", "ContainerBackend"),
    "bare-metal": ("kici.pool.scalers.host", "HostBackend"),
    "fake": ("kici.pool.scalers.fake", "FakeBackend"),
}


class Unsupported(Exception):
    """This scaler cannot work here; the text says why, the others go on."""


def host_leftovers(state_dir: str, owner: str) -> dict[str, set[tuple[str, ...]]]:
    """Scaler -> label sets of what host agents of ``owner`` left on disk, alive or not."""
    from kici.pool.scalers.host_record import records

    left: dict[str, set[tuple[str, ...]]] = {}
    for record in records(f"{state_dir}/agents"):
        if record.owner == owner:
            left.setdefault(record.scaler, set()).add(tuple(record.labels))
    return left


def make_backend(
    scaler: Scaler, *, owner: str, state_dir: str, report: Report, held: Held
) -> Backend:
    """The backend of ``scaler``; ``Unsupported`` with a reason for people."""
    if scaler.unsupported is not None:
        raise Unsupported(scaler.unsupported)
    if scaler.type not in BACKENDS:
        raise Unsupported(f"Unsupported scaler type {scaler.type!r}")
    module, name = BACKENDS[scaler.type]
    try:
        factory: Callable[..., Any] = getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise Unsupported(f"the {scaler.type} backend is not installed: {error}") from error
    try:
        made: Backend = factory(scaler, owner=owner, state_dir=state_dir, report=report, held=held)
    except (ConfigError, OSError, ValueError) as error:
        raise Unsupported(f"the {scaler.type} backend cannot start: {error}") from error
    return made


def same_backend(one: Scaler, other: Scaler) -> bool:
    """Whether a backend made for ``one`` serves ``other`` too: limits, caps and gates are the
    core's business."""
    return _construction(one) == _construction(other)


def _construction(scaler: Scaler) -> Scaler:
    return msgspec.structs.replace(
        scaler,
        max_agents=0,
        mandatory_labels=(),
        roles=None,
        warm_pool=WarmPool(),
        orchestrator_url=None,
        resource_cap=None,
        machine_pool=None,
    )
