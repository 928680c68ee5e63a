"""Configuration, credential and files."""

import json
import os
import stat
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from kici.cli.checks.finding import Finding, Patient, fail, judged, ok, skip, warn

#: A coordinator's credential lives 90 days from its issue and is never renewed by use.
CREDENTIAL_DAYS = 90
CREDENTIAL_WARN_DAYS = 80
FIX_CONFIG = "kici-worker check-config"


def configuration(patient: Patient) -> Iterator[Finding]:
    if patient.config is None:
        for problem in patient.problems:
            yield fail("configuration", problem, "no problem", FIX_CONFIG)
        if patient.unread:
            fix = "sudo kici-worker doctor, or: kici-worker doctor --env-file FILE"
            yield warn("environment", patient.unread, "the worker's own variables", fix)
        return
    yield ok("configuration", "valid")
    for warning in patient.config.warnings:
        yield warn("configuration", warning, "no warning", FIX_CONFIG)
    n_scalers = len(patient.config.scalers.scalers)
    yield judged(
        "scalers",
        n_scalers > 0,
        n_scalers,
        "at least 1",
        "set KICI_SCALER_CONFIG_PATH=/etc/kici/scalers.yaml",
    )


def exposure(patient: Patient) -> Iterator[Finding]:
    if patient.config is None:
        yield skip("exposure", "configuration has problems")
        return
    settings = patient.config.settings
    is_local = settings.host in ("127.0.0.1", "::1", "localhost")
    if is_local or settings.admin_token:
        how = "local only" if is_local else "with admin token"
        yield ok("exposure", f"{settings.host}:{settings.port}, {how}")
    else:
        value = f"{settings.host}:{settings.port} without admin token"
        fix = "echo KICI_ADMIN_TOKEN=$(openssl rand -hex 24) >> /etc/kici/worker.env"
        yield warn("exposure", value, "anybody who reaches the port can drain", fix)


def credential(patient: Patient) -> Iterator[Finding]:
    if patient.config is None:
        yield skip("credential", "configuration has problems")
        return
    settings = patient.config.settings
    path = Path(settings.credential_file)
    if not path.exists():
        has_token = settings.join_token is not None
        value = "none yet, a join token is set" if has_token else "none, and no join token"
        fix = "on the coordinator: kici-admin peer create-token --role worker"
        yield judged("credential", has_token, value, "file or join token", fix)
        return
    yield from _credential_file(path, settings.instance_id)


def _credential_file(path: Path, instance_id: str) -> Iterator[Finding]:
    again = f"rm {path}, then start with a fresh KICI_CLUSTER_JOIN_TOKEN"
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        content = json.loads(path.read_text())
        issued = datetime.fromisoformat(content["issuedAt"])
        owner = content["instanceId"]
    except (OSError, PermissionError) as error:
        yield fail(
            "credential", error.strerror or error, "readable", f"sudo kici-worker doctor ({path})"
        )
        return
    except (ValueError, KeyError, TypeError):
        yield fail("credential", f"{path} is damaged", "JSON with four keys", again)
        return
    yield judged("credential mode", mode & 0o077 == 0, f"{mode:04o}", "0600", f"chmod 600 {path}")
    yield judged("credential owner", owner == instance_id, owner, instance_id, again)
    days = (time.time() - issued.timestamp()) / 86400
    value, limit = f"{days:.0f} days old", f"under {CREDENTIAL_DAYS} days"
    if days < CREDENTIAL_WARN_DAYS:
        yield ok("credential age", value, limit)
    else:
        verdict = warn if days < CREDENTIAL_DAYS else fail
        yield verdict("credential age", value, limit, again)


def data_directory(patient: Patient) -> Iterator[Finding]:
    if patient.config is None:
        yield skip("data directory", "configuration has problems")
        return
    path = patient.config.settings.data_dir
    exists = os.path.isdir(path)
    writable = os.access(path if exists else os.path.dirname(path) or "/", os.W_OK)
    value = f"{path}, {'writable' if writable else 'not writable by this user'}"
    fix = f"sudo install -d -o kici-worker -m 700 {path}"
    yield judged("data directory", writable, value, "writable", fix)


CHECKS = (configuration, exposure, credential, data_directory)
