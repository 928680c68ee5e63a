"""Output bytes of steps become log lines: split, masked, bounded, batched (agent spec 6.7).

Everything works on blocks of whole lines, so the cost of a line is a share of a few C calls.
"""

from collections.abc import Callable

from kici.agent.redact import Redactor

#: Flush a batch at this many lines or after this time.
BATCH_LINES, BATCH_S = 500, 0.1
#: Characters of one frame. JSON needs at most six bytes for one: below 1 MiB (A92).
MAX_CHUNK_CHARS = 160 * 1024
#: A longer line is cut into pieces (characters; bytes while its end is not in sight).
MAX_LINE = 64 * 1024
#: Frames that one batch time may spend on telling stdout and stderr apart. A step that
#: alternates faster gets both in one frame: their order is worth more than the tag.
_MAX_SWITCHES = 8

#: (step_index, lines, stream); stream "" is a mixture.
Emit = Callable[[int, tuple[str, ...], str], None]


class LineSplitter:
    """Owns: the unfinished last line of one stream. Pure."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """The lines that ``data`` completes, masked; invalid UTF-8 is replaced."""
        at = data.rfind(b"\n")
        if at < 0:
            self._rest += data
            return self._cut() if len(self._rest) > self._limit else []
        block, self._rest = self._rest + data[:at], data[at + 1 :]
        lines = self._lines(block)
        return lines + self._cut() if len(self._rest) > self._limit else lines

    def end(self) -> list[str]:
        """The last line, when it had no line feed."""
        rest, self._rest = self._rest, b""
        return self._lines(rest) if rest else []

    def give_up(self) -> list[str]:
        """As much of the last line as cannot be the beginning of a secret: its end is lost."""
        masked, self._rest = self._redactor.mask(self._rest), b""
        shown = masked[: max(len(masked) - self._redactor.longest, 0)]
        return _pieces(shown.decode("utf-8", "replace")) if shown else []

    @property
    def _limit(self) -> int:
        return MAX_LINE + self._redactor.longest

    def _lines(self, block: bytes) -> list[str]:
        lines = self._redactor.mask(block).decode("utf-8", "replace").split("\n")
        if len(block) <= MAX_LINE:
            return lines
        return [piece for line in lines for piece in _pieces(line)]

    def _cut(self) -> list[str]:
        # What is held back may begin a secret that the next read completes.
        masked = self._redactor.mask(self._rest)
        at = max(len(masked) - max(self._redactor.longest, 4), 0)
        while at > 0 and masked[at] & 0xC0 == 0x80:
            at -= 1
        self._rest = masked[at:]
        return _pieces(masked[:at].decode("utf-8", "replace"))


def _pieces(line: str) -> list[str]:
    size = MAX_LINE
    if len(line) <= size:
        return [line]
    return [line[at : at + size] for at in range(0, len(line), size)]


class StepLog:
    """Owns: one step's batch of lines and its byte count. Told by: the step's pump.

    ``limit`` is in bytes of raw output; beyond it one marker line and silence (6.7).
    """

    def __init__(self, step_index: int, redactor: Redactor, limit: int, emit: Emit) -> None:
        self._step_index, self._limit, self._emit = step_index, limit, emit
        self._splitters = {name: LineSplitter(redactor) for name in ("stdout", "stderr")}
        self._redactor = redactor
        self._lines: list[str] = []
        self._stream = "stdout"
        self._n_chars = 0
        self._since: float | None = None
        self._switches: list[float] = []
        self.n_bytes = 0
        self._truncated = False

    def feed(self, stream: str, data: bytes, now: float) -> None:
        if self._truncated:
            return
        over = self.n_bytes + len(data) - self._limit
        if over > 0:
            data = data[: len(data) - over]
        self.n_bytes += len(data)
        self._add(stream, self._splitters[stream].feed(data), now)
        if over > 0:
            self._end_streams(now, cut=True)
            self._truncated = True
            marker = f"[TRUNCATED: log output exceeded {self._limit} bytes]"
            self._add(self._stream, [marker], now)

    def say(self, text: str, now: float) -> None:
        """A line of the agent's own."""
        lines = self._redactor.text(text).split("\n")
        self._add("stdout", [piece for line in lines for piece in _pieces(line)], now)

    @property
    def due_at(self) -> float | None:
        """When the batch wants to be flushed, in the caller's clock."""
        return None if self._since is None else self._since + BATCH_S

    def flush_due(self, now: float) -> None:
        if self._since is not None and now - self._since >= BATCH_S:
            self.flush()

    def flush(self) -> None:
        if self._lines:
            self._emit(self._step_index, tuple(self._lines), self._stream)
        self._lines, self._n_chars, self._since = [], 0, None
        self._stream = self._stream or "stdout"

    def end(self, now: float, last: str = "") -> None:
        """The step's output is over, or cut, which is said in a line ``last``."""
        if not self._truncated:
            self._end_streams(now, cut=bool(last))
        if last:
            self.say(last, now)
        self.flush()

    def _end_streams(self, now: float, *, cut: bool) -> None:
        for stream, splitter in self._splitters.items():
            self._add(stream, splitter.give_up() if cut else splitter.end(), now)

    def _switch(self, stream: str, now: float) -> None:
        self._switches = [at for at in self._switches if now - at < BATCH_S]
        if self._lines and len(self._switches) >= _MAX_SWITCHES:
            self._stream = ""
            return
        self._switches.append(now)
        self.flush()
        self._stream = stream

    def _add(self, stream: str, lines: list[str], now: float) -> None:
        if not lines:
            return
        if stream != self._stream and self._stream:
            self._switch(stream, now)
        if self._since is None:
            self._since = now
        size = sum(map(len, lines)) + len(lines)
        if len(self._lines) + len(lines) <= BATCH_LINES and self._n_chars + size < MAX_CHUNK_CHARS:
            self._lines += lines
            self._n_chars += size
            return
        for line in lines:
            if len(self._lines) >= BATCH_LINES or self._n_chars + len(line) > MAX_CHUNK_CHARS:
                self.flush()
                self._since = now
            self._lines.append(line)
            self._n_chars += len(line) + 1
