"""What one row of the table of settings is (``config/settings.py``)."""

from typing import Literal

import msgspec

from kici.config.parsers import Parser

_UNITS = {"milliseconds": "ms", "duration": "s", "size": "bytes", "days": "days"}


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One variable. ``default`` is the text shown for it; "" means unset.

    ``lenient``: a wrong value is a warning and counts as unset, as in the reference.
    """

    name: str
    field: str
    parse: Parser
    accepts: str
    default: str = ""
    doc: str
    origin: Literal["seed", "reference", "ours"]
    since: str = "0.1"
    lenient: bool = False

    @property
    def unit(self) -> str:
        """The unit of a plain number in the variable: ``ms``, ``s``, ``bytes``, ``days`` or ""."""
        return _UNITS.get(self.accepts.split()[0], "")


class Section(msgspec.Struct, frozen=True):
    title: str
    settings: tuple[Setting, ...]


def row(
    name: str,
    field: str,
    parse: Parser,
    accepts: str,
    default: str,
    origin: Literal["seed", "reference", "ours"],
    doc: str,
    *,
    lenient: bool = False,
) -> Setting:
    return Setting(
        name=name,
        field=field,
        parse=parse,
        accepts=accepts,
        default=default,
        origin=origin,
        doc=doc,
        lenient=lenient,
    )
