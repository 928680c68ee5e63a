"""Job documents: what is taken, and that every problem is said at once."""

import pytest

from kici.coordinator.document import read_document
from kici.errors import ConfigError

SECRET = "never-shown"


def base(**more):
    return {"name": "build", "runs-on": ["linux"], "steps": [{"run": "true"}], **more}


def test_native_job_asks_for_the_native_label_once():
    assert read_document(base()).labels == ("linux", "runtime:native")
    twice = read_document(base(**{"runs-on": ["linux", "runtime:native"]}))
    assert twice.labels == ("linux", "runtime:native")


def test_typescript_job_needs_no_commands_and_no_native_label():
    spec = read_document(
        {"name": "b", "runs-on": "linux", "file": ".kici/ci.ts", "repo": {"url": "u"},
         "steps": [{"name": "unit"}]}
    )  # fmt: skip
    assert not spec.native
    assert spec.labels == ("linux",)


def test_step_takes_the_form_that_the_agent_reads():
    steps = [
        {"name": "a", "run": "x", "timeout": "2m", "workdir": "sub", "continueOnError": True},
        {"run": "y", "if": "always", "env": {"A": "1"}, "secretEnv": {"T": "TOKEN"}},
    ]
    spec = read_document(base(steps=steps, secrets={"TOKEN": SECRET}))
    assert spec.steps == (
        {"name": "a", "run": "x", "workdir": "sub", "timeoutMs": 120_000, "continueOnError": True},
        {"name": "step 2", "run": "y", "env": {"A": "1"}, "secretEnv": {"T": "TOKEN"},
         "if": "always"},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("document", "where"),
    [
        (base(name=""), "name"),
        (base(name=7), "name"),
        (base(odd=1), "odd"),
        (base(steps=[]), "steps"),
        (base(steps=[{"name": "x"}]), "steps[0].run"),
        (base(steps=["x"]), "steps[0]"),
        (base(steps=[{"run": "x", "if": "never"}]), "steps[0].if"),
        (base(steps=[{"run": "x", "timeout": "soon"}]), "steps[0].timeout"),
        (base(steps=[{"run": "x", "secretEnv": {"A": "NONE"}}]), "steps[0].secretEnv.A"),
        (base(timeout=-1), "timeout"),
        (base(shell="fish"), "shell"),
        (base(env={"A": 1}), "env"),
        (base(env={"A B": "1"}), "env"),
        (base(repo={}), "repo.url"),
        (base(repo="u"), "repo"),
        (base(source={"url": "u", "sha256": "x"}), "source.sha256"),
        (base(**{"runs-on": [""]}), "runs-on"),
        (base(**{"runs-on-patterns": ["("]}), "runs-on"),
        (base(file="x.ts"), "file"),
    ],
)
def test_mistake_is_reported_with_its_place(document, where):
    with pytest.raises(ConfigError) as caught:
        read_document(document)
    assert where in [problem.where for problem in caught.value.problems]


def test_all_problems_come_together_and_no_secret_is_shown():
    document = base(name="", odd=1, secrets={"A B": SECRET, "C": 5}, timeout="x")
    with pytest.raises(ConfigError) as caught:
        read_document(document)
    assert len(caught.value.problems) >= 4
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("document", [None, [], "x", 5])
def test_document_that_is_no_mapping_is_refused(document):
    with pytest.raises(ConfigError):
        read_document(document)
