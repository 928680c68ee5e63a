"""The environment of a launched agent, as far as all backends share it (scaler spec 2.8, 4.2)."""

from kici.config.enrich import agent_labels
from kici.config.model import LabelSet, Scaler, Settings
from kici.protocol.labels import canonical


def labels_for(scaler: Scaler, label_set: LabelSet) -> tuple[str, ...]:
    """``KICI_LABELS``: configured order and case, then identity and gate labels (S42)."""
    known = set(label_set.enriched)
    taints = [label for label in label_set.gate if canonical(label) in known]
    return agent_labels(label_set.labels, scaler.type, scaler.name, scaler.roles, taints)


def dial_back_url(settings: Settings, scaler: Scaler) -> str:
    """S65: the scaler's own, the worker's, or loopback."""
    return (
        scaler.orchestrator_url
        or settings.orchestrator_url
        or f"ws://127.0.0.1:{settings.port}{settings.path_prefix}/ws"
    )


def agent_environment(
    settings: Settings, scaler: Scaler, label_set: LabelSet, agent_id: str, token: str | None
) -> dict[str, str]:
    """Later entries win, the label set's own last. SECRET: it holds the token."""
    environment = dict(settings.agent_env)
    if token is not None:
        environment["KICI_AGENT_TOKEN"] = token
    environment |= {
        "KICI_ORCHESTRATOR_URL": dial_back_url(settings, scaler),
        "KICI_AGENT_ID": agent_id,
        "KICI_LABELS": ",".join(labels_for(scaler, label_set)),
        "KICI_SCALER_MANAGED": "1",
    }
    if scaler.roles is not None:
        # Unset means all roles to the agent; its labels must fit the token (S80).
        environment["KICI_ROLES"] = ",".join(scaler.roles)
    if label_set.backpressure_mode is not None:
        environment["KICI_BACKPRESSURE_MODE"] = label_set.backpressure_mode
    return environment | label_set.env
