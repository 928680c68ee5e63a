"""The configuration for people and bundles: only what our own tables name, secrets masked."""

from typing import Any

from kici.config.model import Config, Scaler, Secret, Settings
from kici.config.settings import SETTINGS
from kici.redaction import redact


def shown_config(config: Config) -> dict[str, Any]:
    """Plain data: settings by variable, scalers without what their agents' environment holds."""
    return {
        "settings": _settings(config.settings),
        "globalMaxAgents": config.scalers.global_max_agents,
        "scalers": [_scaler(each) for each in config.scalers.scalers],
        "warnings": list(config.warnings),
    }


def _settings(settings: Settings) -> dict[str, Any]:
    """Variable name to effective value in the variable's own unit; unset ones are None."""
    shown: dict[str, Any] = {
        row.name: _value(getattr(settings, row.field), row.unit)
        for row in SETTINGS
        if hasattr(settings, row.field)
    }
    shown |= {f"KICI_AGENT_ENV_{name}": "***" for name in settings.agent_env}
    return shown


def _value(value: Any, unit: str) -> Any:
    if isinstance(value, Secret):
        return "***"
    if isinstance(value, tuple):
        return redact(",".join(value)) or None
    if unit == "ms":
        return round(value * 1000)
    if unit == "s":
        return f"{value:g}s"
    return redact(value) if isinstance(value, str) else value


def _scaler(scaler: Scaler) -> dict[str, Any]:
    return {
        "name": scaler.name,
        "type": scaler.type,
        "maxAgents": scaler.max_agents,
        "unsupported": scaler.unsupported,
        "labelSets": [
            {
                "labels": list(each.labels),
                "enriched": list(each.enriched),
                "gate": list(each.gate),
                "runs": each.image or each.binary_path,
            }
            for each in scaler.label_sets
        ],
    }
