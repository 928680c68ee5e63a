"""What a job's steps came to, masked, in the reports' shapes (agent spec 6.6)."""

from typing import Any

from kici.agent.redact import Redactor
from kici.agent.steps import Outcome


class Results:
    """Owns: the outputs and the results of the steps so far. Told by: ``JobRun``."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._outputs: dict[str, dict[str, str]] = {}
        self._steps: list[dict[str, Any]] = []

    def keep_outputs(self, step: str, outputs: dict[str, str]) -> None:
        if outputs:
            self._outputs[step] = outputs

    def step(
        self, name: str, state: str, seconds: float, outcome: Outcome | None
    ) -> dict[str, Any]:
        """``data`` of the step's terminal status; ``name`` is masked already."""
        data: dict[str, Any] = {"durationMs": round(seconds * 1000)}
        result: dict[str, Any] = {"name": name, "status": state, **data}
        if outcome is not None and outcome.exit_code is not None:
            data["exitCode"] = outcome.exit_code
        if outcome is not None and outcome.error:
            data["error"] = self._error(outcome)
            result["error"] = data["error"]["message"]
        self._steps.append(result)
        return data

    def job(self, seconds: float, error: str | None) -> dict[str, Any]:
        """``data`` of the job's terminal status."""
        data: dict[str, Any] = {"durationMs": round(seconds * 1000)}
        if error:
            data["error"] = self._redactor.text(error)
        if self._outputs:
            data["outputs"] = self._redactor.value(self._outputs)
        return data | {"stepResults": self._steps}

    def _error(self, outcome: Outcome) -> dict[str, Any]:
        error: dict[str, Any] = {"message": self._redactor.text(outcome.error or "")}
        if outcome.exit_code is not None:
            error["exitCode"] = outcome.exit_code
        if outcome.signal is not None:
            error["signal"] = outcome.signal
        return error
