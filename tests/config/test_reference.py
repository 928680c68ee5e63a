import re
from pathlib import Path

import msgspec
import pytest

from kici.cli.envfile import parse
from kici.config import reference
from kici.config.environment import read_environment
from kici.config.model import Settings
from kici.config.settings import INTERMEDIATE, SETTINGS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (reference.DOCS_FILE, reference.configuration_md),
        (reference.ENV_FILE, reference.worker_env),
    ],
)
def test_the_committed_file_is_what_the_table_says(name, content):
    assert (ROOT / name).read_text() == content(), "run: python -m kici.config.reference"


def test_every_setting_has_one_row_and_every_row_a_setting():
    fields = [row.field for row in SETTINGS if row.field not in INTERMEDIATE]
    assert sorted(fields) == sorted(set(Settings.__struct_fields__) - {"agent_env"})
    assert len({row.name for row in SETTINGS}) == len(SETTINGS)


def test_a_default_that_is_shown_is_the_default_that_holds():
    defaults = {each.name: each.default for each in msgspec.structs.fields(Settings)}
    del defaults["credential_file"]  # ``~`` is expanded by the loader
    for row in SETTINGS:
        if row.default and defaults.get(row.field, msgspec.NODEFAULT) is not msgspec.NODEFAULT:
            assert row.parse(row.default) == defaults[row.field], row.name


def test_the_shipped_environment_file_with_every_line_active_has_no_problem():
    active = re.sub(r"^#(KICI_[A-Z_]+=)", r"\1", (ROOT / "conf/worker.env").read_text(), flags=re.M)
    environ = parse(active)
    assert set(environ) == {row.name for row in SETTINGS}
    environ["KICI_CLUSTER_COORDINATOR_URL"] = "ws://c"
    assert read_environment(environ).problems == []
