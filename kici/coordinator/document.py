"""The job document: what ``kici run FILE.yaml`` and ``POST /api/v1/jobs`` take.

name: build                      # required
workflow: ci                     # default: name
runs-on: [linux, arm64]          # labels, all of them needed; a single one may be plain
exclude: [gpu]                   # labels that the agent must not have
runs-on-patterns: ["^zone-[ab]$"]  # JavaScript expressions; also {source:, flags:}
exclude-patterns: []
repo: {url: https://git.example/acme/shop.git, ref: main, sha: 4f0c…}
source: {url: https://store.example/src.tar.gz, sha256: hex}   # instead of a clone
file: .kici/workflows/ci.ts      # a TypeScript workflow for the real agent: no commands
env: {CI: "1"}
secrets: {NPM_TOKEN: value}      # API only; in a file: {env: NAME} or {file: PATH}
timeout: 30m                     # of the job: seconds, or 90s, 30m, 2h
shell: bash
steps:
  - name: test                   # default: "step N"
    run: pytest -q               # with commands the label runtime:native is added
    env: {A: "1"}
    secretEnv: {TOKEN: NPM_TOKEN}
    workdir: .
    timeout: 10m
    continueOnError: false
    if: always
"""

import re
from typing import Any

import msgspec

from kici.contracts.wire.peer.jobs import Matcher
from kici.coordinator.reading import Reader
from kici.errors import ConfigError, Problem
from kici.protocol.labels import BadLabels, requirements

NATIVE_LABEL = "runtime:native"
MAX_STEPS = 500
#: Characters of the names of a job and its workflow: they are in every list and log line.
MAX_NAME = 200
SHELLS = ("bash", "sh", "python")
_KEYS = frozenset(
    (
        *("name", "workflow", "runs-on", "exclude", "runs-on-patterns", "exclude-patterns"),
        *("repo", "source", "file", "env", "secrets", "timeout", "shell", "steps"),
    )
)
_STEP_KEYS = frozenset(
    (
        *("name", "run", "env", "secretEnv", "workdir", "timeout", "timeoutMs"),
        *("continueOnError", "if", "shell"),
    )
)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class JobSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A checked document. ``secrets`` are SECRET."""

    name: str
    workflow: str
    labels: tuple[str, ...]
    exclude: tuple[str, ...]
    patterns: tuple[Matcher, ...]
    exclude_patterns: tuple[Matcher, ...]
    repo_url: str
    ref: str
    sha: str
    source_url: str | None
    source_sha256: str | None
    file: str | None
    env: dict[str, str]
    secrets: dict[str, str]
    timeout_ms: int | None
    shell: str
    steps: tuple[dict[str, Any], ...]

    @property
    def native(self) -> bool:
        return self.file is None


def read_document(document: Any) -> JobSpec:
    """The checked form; ``ConfigError`` with every problem, none of which shows a value of
    ``secrets``."""
    problems: list[Problem] = []
    if not isinstance(document, dict):
        raise ConfigError([Problem("job", "expected a mapping")])
    job = Reader(document, "", problems)
    job.only(_KEYS)
    name = job.text("name", required=True)
    file = job.text("file") or None
    labels = job.texts("runs-on")
    secrets = job.mapping_of_texts("secrets")
    steps = _steps(job, native=file is None, secrets=secrets)
    repo, source = job.section("repo"), job.section("source")
    repo.only(frozenset({"url", "ref", "sha"}))
    source.only(frozenset({"url", "sha256"}))
    for key in [*secrets, *job.mapping_of_texts("env")]:
        if not _NAME.fullmatch(key):
            job.wrong("secrets" if key in secrets else "env", f"{key!r} is no variable name")
    if file is None and NATIVE_LABEL not in labels:
        labels = (*labels, NATIVE_LABEL)
    spec = JobSpec(
        name=name,
        workflow=job.text("workflow") or name,
        labels=labels,
        exclude=job.texts("exclude"),
        patterns=_matchers(job, "runs-on-patterns"),
        exclude_patterns=_matchers(job, "exclude-patterns"),
        repo_url=repo.text("url", required="repo" in document),
        ref=repo.text("ref"),
        sha=repo.text("sha"),
        source_url=source.text("url", required="source" in document) or None,
        source_sha256=source.text("sha256") or None,
        file=file,
        env=job.mapping_of_texts("env"),
        secrets=secrets,
        timeout_ms=job.duration_ms("timeout"),
        shell=job.text("shell") or "bash",
        steps=steps,
    )
    _check_whole(job, spec)
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    return spec


def _check_whole(job: Reader, spec: JobSpec) -> None:
    job.one_of("shell", SHELLS)
    for key, name in (("name", spec.name), ("workflow", spec.workflow)):
        if len(name) > MAX_NAME:
            job.wrong(key, f"at most {MAX_NAME} characters")
    if spec.source_url and not (spec.source_sha256 and _SHA256.fullmatch(spec.source_sha256)):
        job.wrong("source.sha256", "expected 64 lower-case hex digits")
    if spec.file is not None and not (spec.repo_url or spec.source_url):
        job.wrong("file", "needs a repo or a source to take the workflow from")
    try:
        requirements(
            runs_on=[spec.labels],
            exclude=spec.exclude,
            patterns=spec.patterns,
            exclude_patterns=spec.exclude_patterns,
        )
    except BadLabels as error:
        job.wrong("runs-on", str(error))


def _matchers(job: Reader, key: str) -> tuple[Matcher, ...]:
    found = []
    for place, entry in enumerate(job.items(key)):
        if isinstance(entry, str):
            found.append(Matcher(kind="regex", source=entry, flags=""))
            continue
        one = Reader.of(entry, f"{key}[{place}]", job.problems)
        one.only(frozenset({"source", "flags"}))
        source = one.text("source", required=True)
        found.append(Matcher(kind="regex", source=source, flags=one.text("flags")))
    return tuple(found)


def _steps(job: Reader, *, native: bool, secrets: dict[str, str]) -> tuple[dict[str, Any], ...]:
    entries = job.items("steps")
    if native and not entries:
        job.wrong("steps", "at least one step with a command is needed")
    if len(entries) > MAX_STEPS:
        job.wrong("steps", f"at most {MAX_STEPS} steps")
    return tuple(
        _step(Reader.of(entry, f"steps[{place}]", job.problems), place, native, secrets)
        for place, entry in enumerate(entries[:MAX_STEPS])
    )


def _step(step: Reader, place: int, native: bool, secrets: dict[str, str]) -> dict[str, Any]:
    """One step in the form of ``jobConfig.native`` (agent-executor, option C)."""
    step.only(_STEP_KEYS)
    made: dict[str, Any] = {"name": step.text("name") or f"step {place + 1}"}
    if native:
        made["run"] = step.text("run", required=True)
    for key in ("env", "secretEnv"):
        if value := step.mapping_of_texts(key):
            made[key] = value
    for variable, secret in made.get("secretEnv", {}).items():
        if secret not in secrets:
            step.wrong(f"secretEnv.{variable}", f"no secret named {secret!r}")
    if workdir := step.text("workdir"):
        made["workdir"] = workdir
    timeout = step.duration_ms("timeout")
    timeout = step.number("timeoutMs") if timeout is None else timeout
    if timeout is not None:
        made["timeoutMs"] = timeout
    if step.flag("continueOnError"):
        made["continueOnError"] = True
    if condition := step.text("if"):
        made["if"] = condition
        step.one_of("if", ("success", "always", "failure"))
    if shell := step.text("shell"):
        made["shell"] = shell
        step.one_of("shell", SHELLS)
    return made
