"""What a step says through files: ``$KICI_OUTPUT``, ``$KICI_ENV``, ``$KICI_PATH``.

``NAME=value`` lines; a value of several lines as ``NAME<<END`` … ``END``. ``$KICI_PATH``:
one directory a line. Read after each step, whatever its end (agent spec 6.8).
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

#: A bigger file is a mistake, and would end up in a message.
MAX_BYTES = 1024 * 1024


class StepFiles:
    """Owns: the three files of one step in ``directory``, outside the checkout.

    Raises ``OSError`` when they cannot be made.
    """

    def __init__(self, directory: str, index: int) -> None:
        self._paths = {
            name: Path(directory) / f"step-{index}-{name.lower()}"
            for name in ("KICI_OUTPUT", "KICI_ENV", "KICI_PATH")
        }
        for path in self._paths.values():
            # Never what an earlier step put there: a FIFO would hold up the whole agent.
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))

    @property
    def environment(self) -> dict[str, str]:
        return {name: str(path) for name, path in self._paths.items()}

    def outputs(self) -> dict[str, str]:
        """Raises ``ValueError`` with the file's name for a bad or too big one."""
        return parse_pairs(self._text("KICI_OUTPUT"), "KICI_OUTPUT")

    def variables(self) -> dict[str, str]:
        return parse_pairs(self._text("KICI_ENV"), "KICI_ENV")

    def paths(self) -> list[str]:
        return [line for line in _lines(self._text("KICI_PATH")) if line.strip()]

    def _text(self, name: str) -> str:
        try:
            # A step may have put anything here, also a link or a FIFO.
            fd = os.open(self._paths[name], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return ""
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise ValueError(f"{name}: not a regular file any more")
        with os.fdopen(fd, "rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ValueError(f"{name}: more than {MAX_BYTES} bytes")
        if b"\0" in data:
            # Neither the environment nor a path can hold it.
            raise ValueError(f"{name}: NUL byte")
        return data.decode("utf-8", "replace")


def _lines(text: str) -> list[str]:
    """Only a line feed ends a line: ``splitlines`` would cut at U+2028 and others."""
    return [line.removesuffix("\r") for line in text.split("\n")]


def parse_pairs(text: str, where: str) -> dict[str, str]:
    """Raises ``ValueError`` with the number of the bad line: its text may be a secret that a
    report would cut or escape, and then not know any more."""
    pairs: dict[str, str] = {}
    lines = iter(enumerate(_lines(text), 1))
    for number, line in lines:
        at = f"{where}: line {number}"
        name, heredoc, end = line.partition("<<")
        if heredoc and "=" not in name:
            pairs[_name(name, at)] = _heredoc(lines, end, at)
            continue
        name, equals, value = line.partition("=")
        if equals:
            pairs[_name(name, at)] = value
        elif line.strip():
            raise ValueError(f"{at} is not NAME=value")
    return pairs


def _heredoc(lines: Iterator[tuple[int, str]], end: str, at: str) -> str:
    block: list[str] = []
    for _, line in lines:
        if line == end:
            return "\n".join(block)
        block.append(line)
    raise ValueError(f"{at} begins a block whose end is missing")


def _name(name: str, at: str) -> str:
    if not name.strip():
        raise ValueError(f"{at} has no name")
    return name.strip()
