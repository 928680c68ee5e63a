"""Native jobs: ``jobConfig.native``, our extension (agent-executor report, option C).

Everything a job says is checked here, before anything runs; the executor reads structs.
"""

from typing import Any

import msgspec

from kici.errors import KiciError

#: More would only be a mistake, and each needs a status kept until it is delivered.
MAX_STEPS = 1000
#: Each name is in three reports.
MAX_NAME_CHARS = 1000
SHELLS = {
    "bash": ("bash", "--noprofile", "--norc", "-euo", "pipefail", "-c"),
    "sh": ("sh", "-eu", "-c"),
    "python": ("python3", "-c"),
}
CONDITIONS = ("success", "always", "failure")


class JobRefused(KiciError):
    """This job cannot be run here; the text goes to the user."""


class Step(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """``timeout_ms`` bounds the step; ``secret_env`` maps a variable to a secret's name."""

    run: str
    name: str = ""
    shell: str | None = None
    env: dict[str, str | int | float | bool] = {}
    secret_env: dict[str, str] = {}
    workdir: str = "."
    timeout_ms: int | float | None = None
    continue_on_error: bool = False
    condition: str = msgspec.field(default="success", name="if")


class NativeJob(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The value of ``jobConfig.native``, version 1."""

    steps: list[Step]
    version: int = 1
    shell: str = "bash"
    env: dict[str, str | int | float | bool] = {}
    #: False: run in an empty directory.
    checkout: bool = True


def parse_native(job_config: dict[str, Any]) -> NativeJob:
    """Raises ``JobRefused`` with a reason for the user."""
    raw = job_config.get("native")
    if raw is None:
        raise JobRefused(
            "this agent runs native jobs only; the job is a TypeScript workflow, which needs "
            "the KiCI agent (route native jobs by the label runtime:native)"
        )
    try:
        job = msgspec.convert(raw, NativeJob)
    except msgspec.ValidationError as error:
        raise JobRefused(f"invalid native job: {error}") from None
    if job.version != 1:
        raise JobRefused(f"invalid native job: version {job.version} is not supported, only 1")
    if not 1 <= len(job.steps) <= MAX_STEPS:
        raise JobRefused(f"invalid native job: needs 1 to {MAX_STEPS} steps, has {len(job.steps)}")
    for index, step in enumerate(job.steps):
        _check_step(job, step, f"invalid native job: step {index + 1}")
    return job


def step_name(step: Step, index: int) -> str:
    return step.name or f"step {index + 1}"


def _check_step(job: NativeJob, step: Step, where: str) -> None:
    shell = step.shell or job.shell
    if shell not in SHELLS:
        raise JobRefused(f"{where}: shell must be one of {', '.join(SHELLS)}, not {shell!r}")
    if step.condition not in CONDITIONS:
        known = ", ".join(CONDITIONS)
        raise JobRefused(f"{where}: if must be one of {known}, not {step.condition!r}")
    if len(step.name) > MAX_NAME_CHARS:
        raise JobRefused(f"{where}: name is longer than {MAX_NAME_CHARS} characters")
    if step.timeout_ms is not None and step.timeout_ms <= 0:
        raise JobRefused(f"{where}: timeoutMs must be positive")
    if "\0" in step.run or "\0" in step.workdir:
        raise JobRefused(f"{where}: NUL in a command or path")
    for name in [*job.env, *step.env, *step.secret_env]:
        if not name or "=" in name or "\0" in name:
            raise JobRefused(f"{where}: bad variable name {name!r}")
