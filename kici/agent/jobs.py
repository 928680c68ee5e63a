"""Runs one dispatched job from its checkout to its clean-up (agent spec 6.2, 6.6, 6.8)."""

import logging
import os
import tempfile
import time
import traceback
from typing import Any, Protocol

import gevent
from gevent.event import Event

from kici.agent.archives import fetch_archive
from kici.agent.checkout import check_content_hash, check_out
from kici.agent.environment import inside, job_environment, secrets_of, step_environment
from kici.agent.logs import StepLog
from kici.agent.native import SHELLS, JobRefused, NativeJob, Step, parse_native, step_name
from kici.agent.redact import Redactor
from kici.agent.results import Results
from kici.agent.settings import AgentSettings
from kici.agent.step_files import StepFiles
from kici.agent.steps import GRACE_S, Commands, Interrupt, Outcome, inherited_environment
from kici.contracts.wire.agent.jobs import JobDispatch
from kici.shell.remove_tree import remove_tree

_log = logging.getLogger("kici.agent")

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
    def pause(self, released: Event) -> None:
        """Blocks while the link cannot take more log and ``released`` is not set."""


class JobRun:
    """Owns: one job's directory, processes, secrets and results. Told by: ``cancel``."""

    def __init__(self, dispatch: JobDispatch, settings: AgentSettings, reporter: Reporter) -> None:
        self._dispatch, self._settings, self._reporter = dispatch, settings, reporter
        self._redactor = Redactor(secrets_of(dispatch, settings.token))
        self._interrupt = Interrupt()
        self._commands = Commands(self._interrupt, reporter.pause)
        self._log_limit = _log_limit(dispatch, settings)
        self._environment: dict[str, str] = {}
        self._results = Results(self._redactor)

    def mask(self, text: str) -> str:
        """``text`` without this job's secrets."""
        return self._redactor.text(text)

    def cancel(self, reason: str, *, force: bool, on_request: bool) -> None:
        """End the job: ``cancelled`` on request, ``failed`` when the agent itself leaves."""
        state = "cancelled" if on_request else "failed"
        grace_s = GRACE_S if on_request else STOP_GRACE_S
        # It was told to end before, with a grace time longer than what is left of ours.
        force = force or (self._interrupt.fired and not on_request)
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
        except Exception as bug:  # noqa: BLE001 - said aloud, below
            # Ours. The job hears of it at once: a process that ends leaves it waiting.
            _log.error("Internal error\n%s", self._redactor.text(traceback.format_exc()))
            state, error = "failed", f"agent: internal error ({type(bug).__name__})"
        finally:
            gevent.kill(timer) if timer is not None else None
            survivors = self._commands.end_everything()
            setup.end(time.monotonic())
        if survivors:
            error = f"{error or ''} processes could not be ended: {survivors}".strip()
        if self._interrupt.fired:
            state, error = self._interrupt.state, self._interrupt.reason
        self._reporter.finished(state, self._results.job(time.monotonic() - started, error))
        if root is not None and not remove_tree(root):
            _log.warning("Directory %s of a job could not be deleted", root)
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
        self._environment = job_environment(self._dispatch, native, source)
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
            environment = (
                step_environment(self._environment, step, self._dispatch) | step_files.environment
            )
            directory = inside(source, step.workdir)
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

    def _take_files(self, files: StepFiles, step: Step, index: int, outcome: Outcome) -> Outcome:
        try:
            outputs, variables, paths = files.outputs(), files.variables(), files.paths()
            self._results.keep_outputs(step_name(step, index), outputs)
        except ValueError as error:
            return outcome if not outcome.ok else Outcome(outcome.exit_code, None, str(error))
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
        data = self._results.step(name, state, seconds, outcome)
        accessed = tuple(dict.fromkeys(step.secret_env.values())) if log else ()
        n_bytes = log.n_bytes if log else 0
        self._reporter.step(
            index, name, state, data=data, secrets_accessed=accessed, log_bytes=n_bytes
        )

    def _new_log(self, index: int) -> StepLog:
        return StepLog(index, self._redactor, self._log_limit, self._reporter.log)


def _log_limit(dispatch: JobDispatch, settings: AgentSettings) -> int:
    """Numeric strings are accepted (3.1)."""
    try:
        limit = int(float(dispatch.max_log_size_bytes or 0))
    except (ValueError, OverflowError):
        limit = 0
    return limit if limit > 0 else settings.max_log_bytes
