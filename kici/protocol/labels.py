"""Who may run what: labels, patterns, gates, pick (agent spec 5, peer spec 5.2, scaler 2.3).

Labels are compared trimmed and lower-cased on both sides (0.9.1); exact labels never hold
wildcards. Patterns are JavaScript expressions, searched inside a label without regard to
case and in linear time (``jsregex``).
"""

from collections.abc import Callable, Iterable, Sequence

import msgspec

from kici.contracts.wire.peer.jobs import Matcher
from kici.protocol.jsregex import Regex

#: Patterns of one job: with the bounds of ``jsregex`` this bounds the cost of one offer.
MAX_PATTERNS = 32
#: Labels of one job or one agent.
MAX_LABELS = 512
#: What an agent must have to build a job's own image (agent spec 5.2, rule 7).
CONTAINER_BUILD_LABEL = "kici:runtime:container-build"

Test = Callable[[str], bool]


class BadLabels(ValueError):
    """A selector that no agent can be asked about: the offer is refused (P45)."""


class Requirements(msgspec.Struct, frozen=True, kw_only=True):
    """What a job asks of its agent; all labels canonical."""

    labels: frozenset[str]
    excluded: frozenset[str] = frozenset()
    patterns: tuple[Test, ...] = ()
    excluded_patterns: tuple[Test, ...] = ()
    pick_any: bool = False
    #: Labels that an agent must have but that satisfy no gate.
    also: frozenset[str] = frozenset()


def canonical(label: str) -> str:
    """The form in which labels are stored and compared."""
    return label.strip().lower()


def canonical_set(labels: Iterable[str]) -> frozenset[str]:
    return frozenset(canonical(label) for label in labels)


def requirements(
    *,
    runs_on: Sequence[Sequence[str]],
    exclude: Sequence[str] = (),
    patterns: Sequence[Matcher] = (),
    exclude_patterns: Sequence[Matcher] = (),
    pick: str | None = None,
    builds_image: bool = False,
) -> Requirements:
    """The selector of one job; only element 0 of ``runs_on`` counts (S50).

    Raises ``BadLabels`` for a pattern that is invalid, not portable or too large.
    """
    labels = runs_on[0] if runs_on else ()
    if len(labels) + len(exclude) > MAX_LABELS:
        raise BadLabels(f"more than {MAX_LABELS} labels")
    if len(patterns) + len(exclude_patterns) > MAX_PATTERNS:
        raise BadLabels(f"more than {MAX_PATTERNS} patterns")
    return Requirements(
        labels=canonical_set(labels),
        excluded=canonical_set(exclude),
        patterns=tuple(_test(matcher) for matcher in patterns),
        excluded_patterns=tuple(_test(matcher) for matcher in exclude_patterns),
        pick_any=pick == "any",
        also=frozenset({CONTAINER_BUILD_LABEL}) if builds_image else frozenset(),
    )


def _test(matcher: Matcher) -> Test:
    if matcher.kind == "exact" and matcher.value is not None:
        return canonical(matcher.value).__eq__
    if matcher.kind != "regex" or matcher.source is None:
        raise BadLabels(f"unknown kind of label pattern {matcher.kind!r}")
    flags = matcher.flags or ""
    try:
        return Regex(matcher.source, flags if "i" in flags else flags + "i").search
    except ValueError as error:
        raise BadLabels(f"label pattern {matcher.source[:100]!r}: {error}") from error


def serves(need: Requirements, labels: frozenset[str], gate: Iterable[str] = ()) -> bool:
    """Rules 2-7 of agent spec 5.2 for canonical ``labels`` and gate (mandatory labels)."""
    return (
        need.labels <= labels
        and need.also <= labels
        and need.labels.issuperset(gate)
        and need.excluded.isdisjoint(labels)
        and all(any(map(test, labels)) for test in need.patterns)
        and not any(any(map(test, labels)) for test in need.excluded_patterns)
    )


class SetOffer(msgspec.Struct, frozen=True, kw_only=True):
    """One label set of one scaler as the matcher sees it: enriched labels and gate."""

    scaler: int
    label_set: int
    labels: frozenset[str]
    gate: frozenset[str] = frozenset()


def match_scaler(
    offers: Sequence[SetOffer],
    labels: Iterable[str],
    exclude: Iterable[str] = (),
    accept: Callable[[SetOffer], bool] = lambda _: True,
) -> SetOffer | None:
    """The label set that shall start an agent (scaler spec 2.3), or None.

    ``offers`` in configured order; everything lower-cased, nothing trimmed: callers pass
    canonical labels. An empty request takes the first set without a gate and ignores
    ``exclude`` (S47). Otherwise the set with the fewest distinct labels wins, the earlier
    on a tie (S44). ``accept`` says what else must hold, for instance patterns.
    """
    want = frozenset(label.lower() for label in labels)
    if not want:
        return next((offer for offer in offers if not offer.gate and accept(offer)), None)
    barred = frozenset(label.lower() for label in exclude)
    fitting = [
        offer
        for offer in offers
        if offer.gate <= want <= offer.labels and barred.isdisjoint(offer.labels) and accept(offer)
    ]
    return min(fitting, key=lambda offer: len(offer.labels), default=None)
