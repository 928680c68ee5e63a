"""A fleet with what it told, in a directory of its own; and a scaler of a fake engine."""

import msgspec

from kici.config.model import LabelSet, ResourceSpec, Scaler, ScalerConfig
from kici.pool.actions import LaunchAgent
from kici.pool.events import AgentsFound, BackendReported
from kici.pool.fleet import Fleet
from kici.pool.scalers.base import EventKind
from kici.pool.tokens import TokenIssuer
from tests.support.pool_world import config
from tests.support.waiting import until


class ToldFleet(Fleet):
    """Owns: ``told``, the events for the core."""

    def __init__(self, directory):
        whole = config()
        own = {"data_dir": str(directory), "machine_ledger_dir": str(directory)}
        settings = msgspec.structs.replace(whole.settings, **own)
        self.told = []
        super().__init__(
            msgspec.structs.replace(whole, settings=settings),
            TokenIssuer(str(directory)),
            self.told.append,
        )

    def found(self):
        return [event for event in self.told if isinstance(event, AgentsFound)]

    def ends(self):
        told = [one.event for one in self.told if isinstance(one, BackendReported)]
        return [one for one in told if one.kind in (EventKind.FAILED, EventKind.EXITED)]

    def started(self, agent_id, scaler, **more):
        """Order the launch of one agent."""
        nothing = ResourceSpec()
        self.launch(
            LaunchAgent(
                agent_id=agent_id,
                scaler=scaler,
                label_set=0,
                requests=more.pop("requests", nothing),
                limits=nothing,
            )
        )

    def configured(self, scaler, **more):
        """Configure it alone and let its new backend look; the backend."""
        before = len(self.found())
        self.configure(ScalerConfig(scalers=(scaler,), **more))
        until(lambda: len(self.found()) > before)
        return self._backends[scaler.name]


def boxes(engine, *, image="i:1", **more):
    label_set = LabelSet(labels=("linux",), enriched=("linux",), image=image)
    fields = {"max_agents": 2, "socket_path": engine.path, "network_isolation": False} | more
    return Scaler(name="boxes", type="container", label_sets=(label_set,), **fields)
