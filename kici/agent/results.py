"""What a job's steps came to, masked, in the reports' shapes (agent spec 6.6)."""

from typing import Any

import msgspec

from kici.agent.redact import Redactor
from kici.agent.steps import Outcome

#: JSON of all outputs of a job: the worker drops them from a report above 4 MiB, and a frame
#: above 25 MiB would end the link each time it is said.
MAX_OUTPUT_BYTES = 3 * 2**20
#: An error repeats what the job wrote, however long.
_MAX_ERROR_CHARS = 2000


class Results:
    """Owns: the outputs and the results of the steps so far. Told by: ``JobRun``."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._outputs: dict[str, dict[str, str]] = {}
        self._n_output_bytes = 0
        self._steps: list[dict[str, Any]] = []

    def keep_outputs(self, step: str, outputs: dict[str, str]) -> None:
        """Raises ``ValueError`` when the job's outputs are too many."""
        if not outputs:
            return
        n_bytes = self._n_output_bytes + len(msgspec.json.encode({step: outputs}))
        if n_bytes > MAX_OUTPUT_BYTES:
            raise ValueError(
                f"KICI_OUTPUT: the outputs of this job exceed {MAX_OUTPUT_BYTES} bytes"
            )
        self._n_output_bytes = n_bytes
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
            data["error"] = self._text(error)
        if self._outputs:
            data["outputs"] = self._redactor.value(self._outputs)
        return data | {"stepResults": self._steps}

    def _error(self, outcome: Outcome) -> dict[str, Any]:
        error: dict[str, Any] = {"message": self._text(outcome.error or "")}
        if outcome.exit_code is not None:
            error["exitCode"] = outcome.exit_code
        if outcome.signal is not None:
            error["signal"] = outcome.signal
        return error

    def _text(self, error: str) -> str:
        text = self._redactor.text(error)
        return text if len(text) <= _MAX_ERROR_CHARS else f"{text[:_MAX_ERROR_CHARS]} ..."
