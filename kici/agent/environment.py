"""What the steps of a job see: variables, secrets, directories (agent spec 6.8). Pure but for
the look at the checkout's directories."""

import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from kici.agent.native import JobRefused, NativeJob, Step
from kici.agent.steps import inherited_environment
from kici.contracts.wire.agent.jobs import JobDispatch

_AUTHORITY_END = re.compile("[/?#]")
#: What forges take in place of a password when the user is the token.
_NO_PASSWORD = ("", "x-oauth-basic")
#: A shorter user is a person's name, which may be a word of every log. Tokens have 20 or more.
_MIN_TOKEN = 16


def job_environment(dispatch: JobDispatch, native: NativeJob, source: str) -> dict[str, str]:
    """The layers of 6.8, later ones win; never anything of the agent's own KICI_*."""
    config = dispatch.job_config
    layers = [config.get(key) for key in ("env", "environmentVars", "contextVars", "jobEnv")]
    environment = {**inherited_environment(os.environ), "CI": "true"}
    for layer in [*layers, native.env]:
        if isinstance(layer, dict):
            environment.update({str(name): _text(value) for name, value in layer.items()})
    return environment | {
        "KICI_RUN_ID": dispatch.run_id,
        "KICI_JOB_ID": dispatch.job_id,
        "KICI_WORKSPACE": source,
    }


def step_environment(job: Mapping[str, str], step: Step, dispatch: JobDispatch) -> dict[str, str]:
    """The job's variables, then the step's, then its secrets. Raises ``JobRefused``."""
    environment = dict(job)
    environment.update({name: _text(value) for name, value in step.env.items()})
    for variable, secret in step.secret_env.items():
        environment[variable] = _secret(dispatch, secret)
    return environment


def secrets_of(dispatch: JobDispatch, agent_token: str | None) -> list[str]:
    """Every value of the dispatch that must never be shown (A93)."""
    found = [dispatch.token, agent_token, *(dispatch.secrets or {}).values()]
    for context in (dispatch.namespaced_secrets or {}).values():
        found += context.values()
    found += (dispatch.install_env_secrets or {}).values()
    for auth in (dispatch.source_auth, dispatch.workflow_auth, dispatch.container_registry_auth):
        found += [(auth or {}).get(key) for key in ("secret", "password", "token")]
    found += [registry.get("token") for registry in dispatch.npm_registries or []]
    found += _url_secrets(dispatch.repo_url)
    return [value for value in found if isinstance(value, str) and value]


def _url_secrets(url: str) -> list[str]:
    """The password in ``url``; over HTTP the user, when it stands in a password's place."""
    scheme, _, rest = url.partition("://")
    user, _, password = _AUTHORITY_END.split(rest, 1)[0].rpartition("@")[0].partition(":")
    found = [password, unquote(password)]
    if scheme.lower() in ("http", "https") and password in _NO_PASSWORD:
        found += [name for name in (user, unquote(user)) if len(name) >= _MIN_TOKEN]
    return found


def inside(source: str, workdir: str) -> str:
    """The step's directory within the checkout. Raises ``JobRefused``."""
    root = os.path.realpath(source)
    path = os.path.realpath(os.path.join(root, workdir))
    if os.path.commonpath([root, path]) != root:
        raise JobRefused(f"workdir {workdir!r} is outside the checkout")
    if not os.path.isdir(path):
        raise JobRefused(f"workdir {workdir!r} does not exist")
    return path


def _secret(dispatch: JobDispatch, name: str) -> str:
    """``NAME``, or ``context/NAME`` for a namespaced one."""
    found = (dispatch.secrets or {}).get(name)
    if found is None:
        context, _, inner = name.partition("/")
        found = (dispatch.namespaced_secrets or {}).get(context, {}).get(inner)
    if found is None:
        raise JobRefused(f"secret {name!r} was not given to this job")
    return found


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
