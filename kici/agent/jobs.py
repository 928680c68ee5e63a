"""Runs one dispatched job from its checkout to its clean-up (agent spec 6.2, 6.6, 6.8)."""

import os
import tempfile
import time
from typing import Any, Protocol

import gevent

from kici.agent.archives import fetch_archive
from kici.agent.checkout import check_content_hash, check_out
from kici.agent.logs import StepLog
from kici.agent.native import SHELLS, JobRefused, NativeJob, Step, parse_native, step_name
from kici.agent.redact import Redactor
from kici.agent.settings import AgentSettings
from kici.agent.step_files import StepFiles
from kici.agent.steps import GRACE_S, Commands, Interrupt, Outcome, inherited_environment
from kici.contracts.wire.agent import JobDispatch
from kici.shell.remove_tree import remove_tree

#: Cloning a big repository over a slow line.
CHECKOUT_TIMEOUT_S = 1800.0
#: A longer time-out is none: clocks and timers cannot hold whatever JSON can say.
MAX_TIMEOUT_MS = 366 * 24 * 3600 * 1000
#: SIGTERM comes with a KILL 5 s behind it (scaler spec 4.6): be done before.
STOP_GRACE_S = 1.0


class Reporter(Protocol):
    """Where a running job says what happens; all texts are masked already."""

    def log(self, step_index: int, lines: tuple[str, ...], stream: str) -> None: ...
    def step(self, step_index: int, name: str, state: str, **more: Any) -> None: ...
    def finished(self, state: str, data: dict[str, Any]) -> None: ...
    def cleaned(self) -> None: ...
    def pause(self) -> None:
        """Blocks while the link cannot take more log."""


class JobRun:
    """Owns: one job's directory, processes, secrets and results. Told by: ``cancel``."""

    def __init__(self, dispatch: JobDispatch, settings: AgentSettings, reporter: Reporter) -> None:
        self._dispatch, self._settings, self._reporter = dispatch, settings, reporter
        self._redactor = Redactor(secrets_of(dispatch, settings.token))
        self._interrupt = Interrupt()
        self._commands = Commands(self._interrupt, reporter.pause)
        self._log_limit = _log_limit(dispatch, settings)
        self._environment: dict[str, str] = {}
        self._outputs: dict[str, dict[str, str]] = {}
        self._results: list[dict[str, Any]] = []

    def cancel(self, reason: str, *, force: bool, on_request: bool) -> None:
        """End the job: ``cancelled`` on request, ``failed`` when the agent itself leaves."""
        state = "cancelled" if on_request else "failed"
        grace_s = GRACE_S if on_request else STOP_GRACE_S
        self._interrupt.fire(reason, force=force, state=state, grace_s=grace_s)

    def run(self) -> None:
        """Never raises; ends with exactly one ``finished`` and then ``cleaned``."""
        started = time.monotonic()
        timer = self._start_timer()
        root: str | None = None
        setup = self._new_log(-1)
        try:
            root = tempfile.mkdtemp(prefix="kici-")
            state, error = self._work(root, setup)
        except JobRefused as refused:
            state, error = "failed", str(refused)
        except OSError as failure:
            what = f": {failure.filename}" if failure.filename else ""
            state, error = "failed", f"agent: {failure.strerror or failure}{what}"
        finally:
            gevent.kill(timer) if timer is not None else None
            survivors = self._commands.end_everything()
            setup.end(time.monotonic())
        if survivors:
            error = f"{error or ''} processes could not be ended: {survivors}".strip()
        if self._interrupt.fired:
            state, error = self._interrupt.state, self._interrupt.reason
        self._reporter.finished(state, self._report(started, error))
        if root is not None:
            remove_tree(root)
        self._reporter.cleaned()

    def _start_timer(self) -> gevent.Greenlet | None:
        limit_ms = self._dispatch.job_config.get("timeout")
        if not isinstance(limit_ms, (int, float)) or isinstance(limit_ms, bool) or limit_ms <= 0:
            return None
        reason = f"job_timeout: job exceeded its timeout of {limit_ms}ms"
        fire = self._interrupt.fire
        limit_s = min(limit_ms, MAX_TIMEOUT_MS) / 1000
        return gevent.spawn_later(limit_s, fire, reason, force=False, state="failed")

    def _work(self, root: str, setup: StepLog) -> tuple[str, str | None]:
        native = parse_native(self._dispatch.job_config)
        source, files = os.path.join(root, "source"), os.path.join(root, "files")
        os.mkdir(source)
        os.mkdir(files)
        self._environment = self._job_environment(native, source)
        self._prepare(native, source, files, setup)
        setup.flush()
        return self._run_steps(native, source, files)

    def _prepare(self, native: NativeJob, source: str, scratch: str, log: StepLog) -> None:
        dispatch = self._dispatch

        def say(text: str) -> None:
            log.say(text, time.monotonic())

        def git(argv: list[str], extra: Any) -> Outcome:
            environment = {**inherited_environment(os.environ), **extra}
            return self._commands.run(
                argv, cwd=source, env=environment, log=log, timeout_s=CHECKOUT_TIMEOUT_S
            )

        def stopped() -> bool:
            return self._interrupt.fired

        if native.checkout and dispatch.repo_url:
            check_out(dispatch, source, git, say)
        if dispatch.source_tar_url and native.checkout:
            say("Extracting source archive")
            digest = dispatch.source_tar_digest
            fetch_archive(dispatch.source_tar_url, digest, source, scratch, stopped)
        if dispatch.deps_url and native.checkout:
            say("Extracting dependency archive")
            fetch_archive(dispatch.deps_url, dispatch.deps_hash, source, scratch, stopped)
        if native.checkout:
            check_content_hash(dispatch.job_config, source)

    def _job_environment(self, native: NativeJob, source: str) -> dict[str, str]:
        """The layers of 6.8, later ones win; never anything of the agent's own KICI_*."""
        config = self._dispatch.job_config
        layers = [config.get(key) for key in ("env", "environmentVars", "contextVars", "jobEnv")]
        environment = {**inherited_environment(os.environ), "CI": "true"}
        for layer in [*layers, native.env]:
            if isinstance(layer, dict):
                environment.update({str(name): _text(value) for name, value in layer.items()})
        return environment | {
            "KICI_RUN_ID": self._dispatch.run_id,
            "KICI_JOB_ID": self._dispatch.job_id,
            "KICI_WORKSPACE": source,
        }

    def _run_steps(self, native: NativeJob, source: str, files: str) -> tuple[str, str | None]:
        error: str | None = None
        for index, step in enumerate(native.steps):
            name = step_name(step, index)
            wanted = step.condition == "always" or (
                (error is None) == (step.condition == "success")
            )
            if self._interrupt.fired or not wanted:
                self._report_step(index, step, "skipped", 0, None, None)
                continue
            outcome = self._run_step(index, step, native, source, files)
            if not outcome.ok and not step.continue_on_error and error is None:
                error = f"Step '{name}' failed: {outcome.error}"
        return ("failed", error) if error else ("success", None)

    def _run_step(
        self, index: int, step: Step, native: NativeJob, source: str, files: str
    ) -> Outcome:
        self._reporter.step(index, self._redactor.text(step_name(step, index)), "running")
        started = time.monotonic()
        log = self._new_log(index)
        step_files = StepFiles(files, index)
        try:
            environment = self._step_environment(step) | step_files.environment
            directory = _inside(source, step.workdir)
        except JobRefused as refused:
            log.say(str(refused), started)
            log.end(started)
            outcome = Outcome(error=str(refused))
        else:
            outcome = self._commands.run(
                [*SHELLS[step.shell or native.shell], step.run],
                cwd=directory,
                env=environment,
                log=log,
                timeout_s=self._step_timeout_s(step),
            )
            outcome = self._take_files(step_files, step, index, outcome)
        if outcome.ok:
            state = "success"
        else:
            aborted = self._interrupt.fired and self._interrupt.state == "cancelled"
            state = "cancelled" if aborted else "failed"
        self._report_step(index, step, state, time.monotonic() - started, outcome, log)
        return outcome

    def _step_timeout_s(self, step: Step) -> float:
        if step.timeout_ms is None:
            return self._settings.step_timeout_s
        return min(step.timeout_ms, MAX_TIMEOUT_MS) / 1000

    def _step_environment(self, step: Step) -> dict[str, str]:
        environment = dict(self._environment)
        environment.update({name: _text(value) for name, value in step.env.items()})
        for variable, secret in step.secret_env.items():
            environment[variable] = self._secret(secret)
        return environment

    def _secret(self, name: str) -> str:
        """``NAME``, or ``context/NAME`` for a namespaced one."""
        found = (self._dispatch.secrets or {}).get(name)
        if found is None:
            context, _, inner = name.partition("/")
            found = (self._dispatch.namespaced_secrets or {}).get(context, {}).get(inner)
        if found is None:
            raise JobRefused(f"secret {name!r} was not given to this job")
        return found

    def _take_files(self, files: StepFiles, step: Step, index: int, outcome: Outcome) -> Outcome:
        try:
            outputs, variables, paths = files.outputs(), files.variables(), files.paths()
        except ValueError as error:
            return outcome if not outcome.ok else Outcome(outcome.exit_code, None, str(error))
        if outputs:
            self._outputs[step_name(step, index)] = outputs
        self._environment.update(variables)
        if paths:
            self._environment["PATH"] = ":".join([*paths, self._environment.get("PATH", "")])
        return outcome

    def _report_step(
        self,
        index: int,
        step: Step,
        state: str,
        seconds: float,
        outcome: Outcome | None,
        log: StepLog | None,
    ) -> None:
        name = self._redactor.text(step_name(step, index))
        data: dict[str, Any] = {"durationMs": round(seconds * 1000)}
        result: dict[str, Any] = {"name": name, "status": state, **data}
        if outcome is not None and outcome.exit_code is not None:
            data["exitCode"] = outcome.exit_code
        if outcome is not None and outcome.error:
            error: dict[str, Any] = {"message": self._redactor.text(outcome.error)}
            if outcome.exit_code is not None:
                error["exitCode"] = outcome.exit_code
            if outcome.signal is not None:
                error["signal"] = outcome.signal
            data["error"] = error
            result["error"] = error["message"]
        self._results.append(result)
        accessed = tuple(dict.fromkeys(step.secret_env.values())) if log else ()
        n_bytes = log.n_bytes if log else 0
        self._reporter.step(
            index, name, state, data=data, secrets_accessed=accessed, log_bytes=n_bytes
        )

    def _report(self, started: float, error: str | None) -> dict[str, Any]:
        data: dict[str, Any] = {"durationMs": round((time.monotonic() - started) * 1000)}
        if error:
            data["error"] = self._redactor.text(error)
        if self._outputs:
            data["outputs"] = self._redactor.value(self._outputs)
        return data | {"stepResults": self._results}

    def _new_log(self, index: int) -> StepLog:
        return StepLog(index, self._redactor, self._log_limit, self._reporter.log)


def secrets_of(dispatch: JobDispatch, agent_token: str | None) -> list[str]:
    """Every value of the dispatch that must never be shown (A93)."""
    found = [dispatch.token, agent_token, *(dispatch.secrets or {}).values()]
    for context in (dispatch.namespaced_secrets or {}).values():
        found += context.values()
    found += (dispatch.install_env_secrets or {}).values()
    for auth in (dispatch.source_auth, dispatch.workflow_auth, dispatch.container_registry_auth):
        found += [(auth or {}).get(key) for key in ("secret", "password", "token")]
    found += [registry.get("token") for registry in dispatch.npm_registries or []]
    userinfo = dispatch.repo_url.partition("://")[2].partition("@")
    if userinfo[1] and "/" not in userinfo[0]:
        found.append(userinfo[0].partition(":")[2])
    return [value for value in found if isinstance(value, str) and value]


def _inside(source: str, workdir: str) -> str:
    root = os.path.realpath(source)
    path = os.path.realpath(os.path.join(root, workdir))
    if os.path.commonpath([root, path]) != root:
        raise JobRefused(f"workdir {workdir!r} is outside the checkout")
    if not os.path.isdir(path):
        raise JobRefused(f"workdir {workdir!r} does not exist")
    return path


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _log_limit(dispatch: JobDispatch, settings: AgentSettings) -> int:
    """Numeric strings are accepted (3.1)."""
    try:
        limit = int(float(dispatch.max_log_size_bytes or 0))
    except (ValueError, OverflowError):
        limit = 0
    return limit if limit > 0 else settings.max_log_bytes
