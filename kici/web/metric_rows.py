"""The plain form of a metric family, before prometheus_client is there."""

from collections.abc import Iterable, Sequence

#: (name, help, label names, rows); a row is (label values, value).
Rows = Iterable[tuple[Sequence[str], float]]
Family = tuple[str, str, Sequence[str], Rows]


def one(name: str, text: str, value: float) -> Family:
    """A family of one row, without labels."""
    return name, text, (), [((), float(value))]
