"""Output of strangers on our page: colours yes, anything else no."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kici.web.ansi import Style, to_html


@pytest.mark.parametrize(
    ("line", "html"),
    [
        ("plain", "plain"),
        ("<script>&'\"", "&lt;script&gt;&amp;&#x27;&quot;"),
        ("\x1b[1;32mok\x1b[0m end", '<span class="b c2">ok</span> end'),
        ("\x1b[91mbright", '<span class="c9">bright</span>'),
        ("\x1b[38;5;196mx\x1b[38;2;1;2;31my", "xy"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;javascript:alert(1)\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b[2J\x1b[Hhome", "home"),
        ("10%\r50%\r100%\r", "100%"),
        ("tab\there", "tab\there"),
        ("bell\x07", "bell"),
    ],
)
def test_a_line_becomes_html(line: str, html: str) -> None:
    assert to_html(line) == html


def test_colours_go_on_over_lines() -> None:
    style = Style()
    to_html("\x1b[33mfirst", style)
    assert to_html("second\x1b[39m third", style) == '<span class="c3">second</span> third'


@given(st.text(alphabet=st.sampled_from("\x1b[]0123456789;:m<>&\"'\\\x07\r ab")))
def test_no_markup_of_the_input_survives(line: str) -> None:
    html = re.sub(r'<span class="[bdc0-9 ]+">|</span>', "", to_html(line))
    assert not set(html) & set("<>\"'\x1b\x07")
