"""The contract of a scaler backend. The shared contract tests hold every backend to it.

A backend starts single-use agents and makes them disappear again. It decides nothing: the
pool says launch and reap, the backend says what happened. All calls return at once; slow
work runs in the backend's own greenlets and ends in ``report(BackendEvent)``.

Rules, for every agent id:
  1. after ``launch`` exactly one of ``started`` or ``failed`` is reported;
  2. after ``started`` exactly one ``exited`` is reported, however the agent ends;
  3. after ``reap`` nothing of the agent is left (process tree, container, files) within
     ``grace_s`` plus ``KILL_S``, and ``exited`` (or ``failed``) is reported, once;
  4. ``reap`` of an unknown agent is harmless;
  5. ``found`` lists what exists now with our owner mark, also after a restart, so that it
     can be adopted or reaped; what belongs to another worker is never listed nor touched,
     nor is an agent that ``held`` names, alive or not: another object of this process has it
     (a reload replaces a scaler's backend, and the former stays for its agents);
  6. ``close`` releases the backend's own resources and kills nothing;
  7. ``clean`` deletes what we left behind, within the budget, never what is in use, of
     somebody else or named by the budget; each deletion is logged with why.
"""

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Protocol

import msgspec

from kici.config.model import LabelSet, ResourceSpec, Scaler

#: Seconds between the end of the grace time and the moment everything must be gone.
KILL_S = 5.0


class LaunchSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One agent to start. ``env`` holds the agent's token: SECRET, never logged."""

    agent_id: str
    scaler: Scaler
    label_set: LabelSet
    env: Mapping[str, str]
    limits: ResourceSpec | None = None
    run_id: str | None = None
    job_id: str | None = None
    #: Image chosen by the job, else the label set's.
    image: str | None = None
    #: The job's own login for its image (``containerRegistryAuth``): SECRET.
    registry_auth: Mapping[str, Any] | None = None


class EventKind(StrEnum):
    PROVISIONING = "provisioning"  # detail: what is being done (pulling, creating)
    NETWORK = "network"
    STARTED = "started"
    FAILED = "failed"  # it never ran; detail: why, with the tail of its output
    EXITED = "exited"  # it ran and is gone; detail: how, with the tail of its output


class BackendEvent(msgspec.Struct, frozen=True, kw_only=True):
    agent_id: str
    kind: EventKind
    detail: str = ""


class FoundAgent(msgspec.Struct, frozen=True, kw_only=True):
    """An agent that exists outside our memory, found by its owner mark."""

    agent_id: str
    job_id: str | None
    run_id: str | None
    label_set_labels: Sequence[str]


class CleaningBudget(msgspec.Struct, frozen=True, kw_only=True):
    """How long, and how much of it, leftovers may stay; 0 is for ever, and any amount."""

    images_max_age_s: float = 0.0
    images_max_bytes: int = 0
    agents_max_age_s: float = 0.0
    #: Images of all label sets of all scalers.
    named: frozenset[str] = frozenset()


class CannotLook(Exception):
    """``found`` could not find out what exists; the text says why."""


Report = Callable[[BackendEvent], None]

#: Whether somebody in this process watches the agent.
Held = Callable[[str], bool]


def nobody(_agent_id: str) -> bool:
    """``Held`` of a backend that is alone."""
    return False


class Backend(Protocol):
    """Made by ``BACKENDS[type](scaler, owner=instance_id, state_dir=…, report=…, held=…)``."""

    #: True when agents run on this machine (peer spec 4.4).
    on_local_host: bool

    def health(self) -> str:
        """Empty when launches can work; else the reason, for ``/status`` and NAKs."""

    def launch(self, spec: LaunchSpec) -> None: ...

    def reap(self, agent_id: str, grace_s: float) -> None: ...

    def found(self) -> Sequence[FoundAgent]:
        """What exists; ``CannotLook`` when that cannot be found out now."""

    def adopt(self, agent_id: str) -> None:
        """Watch a found agent from now on: its end is reported as ``exited``, at once when it
        is gone already."""

    def cleans(self) -> str:
        """Where ``clean`` would look now; one of several backends with one place is enough."""

    def clean(self, budget: CleaningBudget) -> None:
        """Called now and then, in a greenlet of its own."""

    def close(self) -> None: ...
