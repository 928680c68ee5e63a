"""Terminal output of strangers as safe HTML: everything escaped, colours as classes.

Only colours and weights (SGR) survive; other control sequences vanish. Nothing of the
input reaches the page unescaped, and no style is written: the classes are in page.css.
"""

import re
from html import escape

#: CSI sequences, OSC strings, two-byte escapes, then any other control character.
_CONTROL = re.compile(
    r"\x1b\[([0-9;:]*)([@-~])|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[^\[\]]?|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)
#: Longer lines are cut in the page; the coordinator has them whole.
MAX_LINE_CHARS = 4000


class Style:
    """The SGR state of one stream: classes of the next text."""

    def __init__(self) -> None:
        self.bold = False
        self.dim = False
        self.colour: int | None = None

    def apply(self, parameters: str) -> None:
        codes = [int(code) if code.isdigit() else 0 for code in re.split("[;:]", parameters)]
        while codes:
            code = codes.pop(0)
            if code in (38, 48):
                # 256 colours and RGB: skipped, not mistaken for other codes.
                del codes[: {5: 2, 2: 4}.get(codes[0] if codes else 0, 1)]
            else:
                self._one(code)

    def _one(self, code: int) -> None:
        if code == 0:
            self.bold, self.dim, self.colour = False, False, None
        elif code == 1:
            self.bold = True
        elif code == 2:
            self.dim = True
        elif code == 22:
            self.bold = self.dim = False
        elif 30 <= code <= 37:
            self.colour = code - 30
        elif code == 39:
            self.colour = None
        elif 90 <= code <= 97:
            self.colour = code - 82

    def classes(self) -> str:
        names = ["b"] * self.bold + ["d"] * self.dim
        if self.colour is not None:
            names.append(f"c{self.colour}")
        return " ".join(names)


def to_html(line: str, style: Style | None = None) -> str:
    """One line (no newline) as HTML; ``style`` carries colours over lines."""
    style = style or Style()
    parts, position = [], 0
    # A progress bar rewrites its line: what a terminal would show last is what counts.
    line = line.rstrip("\r").rsplit("\r", 1)[-1][:MAX_LINE_CHARS]
    for found in _CONTROL.finditer(line):
        parts.append(_piece(line[position : found.start()], style))
        if found[2] == "m":
            style.apply(found[1])
        position = found.end()
    parts.append(_piece(line[position:], style))
    return "".join(parts)


def _piece(text: str, style: Style) -> str:
    if not text:
        return ""
    classes = style.classes()
    return f'<span class="{classes}">{escape(text)}</span>' if classes else escape(text)
