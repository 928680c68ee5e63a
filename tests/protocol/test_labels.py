"""Labels, patterns and gates decide who may run what."""

import json
import time
from pathlib import Path

import pytest

from kici.contracts.wire.peer.jobs import Matcher
from kici.protocol.jsregex import Regex
from kici.protocol.labels import (
    BadLabels,
    SetOffer,
    canonical_set,
    match_scaler,
    requirements,
    serves,
)

VECTORS = json.loads((Path(__file__).parent / "vectors/scaler-match-vectors.json").read_text())


def need(*labels, **more):
    return requirements(runs_on=[list(labels)], **more)


def regex(source, flags=""):
    return Matcher(kind="regex", source=source, flags=flags)


def offers(entries):
    return [
        SetOffer(
            scaler=index,
            label_set=number,
            labels=canonical_set(label_set["labels"]),
            gate=canonical_set(entry.get("mandatoryLabels", [])),
        )
        for index, entry in enumerate(entries)
        for number, label_set in enumerate(entry["labelSets"])
    ]


# S43 S44 S45 S46 S47
@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: json.dumps(case["labels"]))
def test_scaler_matching_agrees_with_the_recorded_vectors(case):
    entries = VECTORS["entries"][case["entries"]]
    found = match_scaler(offers(entries), case["labels"], case["exclude"])
    result = found and {"scaler": entries[found.scaler]["name"], "labelSet": found.label_set}
    assert result == case["result"]


# S48
def test_host_label_is_not_satisfied_by_scaling():
    assert match_scaler(offers(VECTORS["entries"]["basic"]), ["kici:host:x"]) is None


# A45 P43
def test_empty_request_matches_any_ungated_agent():
    assert serves(need(), frozenset({"linux"}))
    assert not serves(need(), frozenset({"linux", "gpu"}), {"gpu"})


# A46
def test_one_missing_label_excludes():
    assert serves(need("linux", "x64"), frozenset({"linux", "x64", "big"}))
    assert not serves(need("linux", "arm"), frozenset({"linux", "x64"}))


# A47
def test_one_excluded_label_excludes():
    assert not serves(need("linux", exclude=["Big "]), frozenset({"linux", "big"}))


# A48
def test_every_pattern_must_hit_some_label_and_searches_within():
    labels = frozenset({"linux", "zone-a1"})
    assert serves(need(patterns=[regex("one-[ab]"), regex("^lin")]), labels)
    assert not serves(need(patterns=[regex("one-[ab]$"), regex("^lin")]), labels)
    assert not serves(need(exclude_patterns=[regex("zone")]), labels)
    assert serves(need(patterns=[Matcher(kind="exact", value=" Linux ")]), labels)


# A49
def test_gate_needs_exact_labels_and_patterns_do_not_open_it():
    labels = frozenset({"linux", "gpu"})
    assert serves(need("gpu"), labels, {"gpu"})
    assert not serves(need("linux", patterns=[regex("gpu")]), labels, {"gpu"})


# A51
def test_labels_are_compared_trimmed_and_without_case_and_without_wildcards():
    assert serves(need(" LINUX "), canonical_set(["Linux"]))
    assert not serves(need("lin*"), canonical_set(["linux"]))


# S50
def test_only_the_first_alternative_of_runs_on_counts():
    both = requirements(runs_on=[["linux"], ["mac"]])
    assert both.labels == {"linux"}


def test_job_that_builds_its_image_needs_an_agent_that_can():
    wish = need("linux", builds_image=True)
    assert not serves(wish, frozenset({"linux"}))
    assert serves(wish, frozenset({"linux", "kici:runtime:container-build"}))


@pytest.mark.parametrize(
    ("source", "flags", "text", "hit"),
    [
        ("a.c", "", "a\nc", False),
        ("a.c", "s", "a\nc", True),
        ("^b$", "", "a\nb", False),
        ("^b$", "m", "a\nb", True),
        ("b$", "", "b\n", False),
        ("ABC", "", "abc", False),
        ("ABC", "i", "abc", True),
        ("(?<zone>a|b)-\\d+$", "", "x-b-12", True),
        ("\\d", "", "٣", False),
        ("^\\w+$", "", "é", False),
        ("a\\/b", "", "a/b", True),
        ("^(?!arm)", "", "arm64", False),
        ("^(?!arm)", "", "x64", True),
        ("lin(?=ux)", "", "linux", True),
        ("\\u{6c}inux", "u", "linux", True),
        ("\\x6cinux", "", "linux", True),
        ("^[^\\s\\D]{2,3}$", "", "123", True),
        ("^[^\\s\\D]{2,3}$", "", "1234", False),
        ("a{3}", "", "aa", False),
        ("a{2,}?", "", "xaa", True),
        ("^(?:ab)*?c", "", "ababc", True),
        ("\\bgpu\\b", "", "big-gpu-1", True),
        ("b", "y", "ab", False),
        ("b", "g", "ab", True),
        ("^[a-f-]+$", "", "a-f", True),
        ("", "", "", True),
        ("(|a)*b", "", "aab", True),
        ("[]", "", "a", False),
        ("[^]", "", "a", True),
    ],
)
def test_pattern_means_what_it_means_in_javascript(source, flags, text, hit):
    pattern = Regex(source, flags)
    assert pattern.search(text) is hit
    assert pattern.search(text) is hit  # A52: no state between calls, whatever the flags


# P45 A52
@pytest.mark.parametrize(
    "source",
    ["(", ")", "[a", "a**", "*a", "a{2,1}", "\\1", "(?<=a)b", "\\p{L}", "(?<n", "(?P<n>a)", "\\"]
    + ["a" * 501, "(a{1000}){1000}", "(" * 40 + ")" * 40, "(?i)a", "{", "[b-a]", "^*"],
)
def test_pattern_that_cannot_be_honoured_is_refused(source):
    with pytest.raises(BadLabels):
        need(patterns=[regex(source)])


# P45
def test_unknown_flags_and_kinds_are_refused():
    for matcher in (regex("a", "q"), regex("a", "ii"), Matcher(kind="glob", value="a*")):
        with pytest.raises(BadLabels):
            need(patterns=[matcher])


# A52
@pytest.mark.parametrize(
    "source",
    ["(a+)+$", "(a|a)*$", "(a*)*b", "a*a*a*a*a*a*a*b", "(.*a){40}$"]
    + ["(?=" * 25 + "a*b" + ")" * 25, "((?=(a*){90}b)a*)*c"],
)
def test_pathological_pattern_ends_soon(source):
    pattern = Regex(source)
    begin = time.process_time()
    pattern.search("a" * 255 + "!")
    assert time.process_time() - begin < 1.0


def test_text_beyond_the_bound_never_matches():
    assert not Regex("a").search("a" * 257)
