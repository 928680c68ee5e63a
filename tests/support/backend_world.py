"""A container backend with what a test needs around it."""

from itertools import count

from kici.config.model import LabelSet, ResourceSpec, Scaler
from kici.pool.scalers.base import EventKind, LaunchSpec
from kici.pool.scalers.container import ContainerBackend
from tests.support.container_engine import IMAGE, VOLUMES
from tests.support.waiting import until

WAIT_S = 30.0
_numbers = count(1)
#: Ends at once on SIGTERM, as a well-behaved agent does.
SLEEPER = (
    "import signal,sys,time;signal.signal(15,lambda *_:sys.exit(0));"
    "print('agent is up',flush=True);time.sleep(600)"
)
STUBBORN = (
    "import signal,time;signal.signal(15,signal.SIG_IGN);print('deaf',flush=True);time.sleep(600)"
)


def scaler_for(engine, name="box", **extra):
    extra.setdefault("network_isolation", False)
    extra.setdefault("socket_path", str(engine.socket))
    return Scaler(
        name=name,
        type="container",
        max_agents=10,
        label_sets=(LabelSet(labels=("linux",), enriched=("linux",), image=IMAGE),),
        **extra,
    )


class World:
    """Owns: one backend and what it reported."""

    def __init__(self, engine, tmp_path, *, owner="w1", scaler=None, **extra):
        self.engine = engine
        self.owner = owner
        self.scaler = scaler or scaler_for(engine)
        self.events = []
        self.backend = ContainerBackend(
            self.scaler,
            owner=owner,
            state_dir=str(tmp_path),
            report=self.events.append,
            **{"nft": engine.nft, "poll_s": 1.0, **extra},
        )

    def spec(self, code=SLEEPER, *, image=IMAGE, policy="Never", agent_id=None, **extra):
        """An agent that runs ``code`` with the host's Python."""
        fields = {
            "labels": ("Linux", "gpu"),
            "enriched": ("linux", "gpu"),
            "image": image,
            "image_pull_policy": policy,
            "volumes": VOLUMES,
            "env": {"CODE": code},
        } | extra.pop("label_set", {})
        fields["env"] = {"CODE": code} | fields["env"]
        return LaunchSpec(
            agent_id=agent_id or f"agent-{self.owner}-{next(_numbers)}",
            scaler=self.scaler,
            label_set=LabelSet(**fields),
            env={
                "KICI_ORCHESTRATOR_URL": "ws://172.30.0.1:4000/ws",
                "KICI_AGENT_TOKEN": "kat_" + "a" * 64,
                "KICI_AGENT_ID": "x",
            },
            **extra,
        )

    def launch(self, *args, **kwargs):
        spec = self.spec(*args, **kwargs)
        self.backend.launch(spec)
        return spec.agent_id

    def kinds(self, agent_id):
        return [event.kind for event in self.events if event.agent_id == agent_id]

    def detail(self, agent_id, kind):
        (found,) = [e.detail for e in self.events if (e.agent_id, e.kind) == (agent_id, kind)]
        return found

    def wait_for(self, agent_id, kind, wait_s=WAIT_S):
        until(lambda: kind in self.kinds(agent_id), wait_s)
        return self.detail(agent_id, kind)

    def started(self, *args, **kwargs):
        agent_id = self.launch(*args, **kwargs)
        until(lambda: {EventKind.STARTED, EventKind.FAILED} & set(self.kinds(agent_id)))
        assert EventKind.STARTED in self.kinds(agent_id), self.events
        return agent_id

    def wait_output(self, agent_id, text):
        """Until the agent has written ``text``."""
        until(lambda: text in self.backend._agents[agent_id]._output.tail())

    def client(self):
        return self.backend._engine.client()

    def containers(self, **labels):
        wanted = [f"{key.replace('__', '-')}={value}" for key, value in labels.items()]
        return self.client().containers(all=True, filters={"label": wanted or ["kici-managed"]})


__all__ = ["SLEEPER", "STUBBORN", "EventKind", "ResourceSpec", "World", "scaler_for", "until"]
