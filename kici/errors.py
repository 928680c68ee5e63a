"""Three kinds of trouble, told apart by whose fault it is (design rule 5).

``LocalError``   our own bug: crash the process, the supervisor restarts it.
``RemoteError``  the other end's mistake: answer, close, one log line.
``ConfigError``  the operator's input: every problem at once, each with its place.
"""

from collections.abc import Sequence

import msgspec

#: sysexits' EX_CONFIG: the operator's input is the cause. The unit has
#: RestartPreventExitStatus=78, because another start would not help.
EXIT_CONFIG = 78


class KiciError(Exception):
    """Base of every error that this package raises on purpose."""


class LocalError(KiciError):
    """A state that our own code must never reach."""


class RemoteError(KiciError):
    """The other end broke the protocol; ``code`` is the WebSocket close code to use."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason


class Problem(msgspec.Struct, frozen=True):
    """One thing that is wrong with the operator's input.

    ``where`` is an environment variable or ``file: path.to.key``; ``what`` says what was
    expected and what was found, and never repeats a secret.
    """

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class ConfigError(KiciError):
    """Everything that is wrong with the configuration, reported together."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        lines = "\n".join(f"  - {problem}" for problem in self.problems)
        super().__init__(f"Configuration validation failed:\n{lines}")
