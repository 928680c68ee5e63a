import msgspec

from kici.config.model import Config, ScalerConfig
from kici.errors import ConfigError, Problem
from kici.supervisor.reload import Configuration, reload
from tests.support.fake_children import config


def refuse(*problems: str):
    def load() -> Config:
        raise ConfigError([Problem(where="scalers.yaml", what=what) for what in problems])

    return load


# W136
def test_a_good_file_changes_the_scalers_only(tmp_path):
    old = config(tmp_path, 4000)
    scalers = ScalerConfig(global_max_agents=7, warnings=("careful",))
    new = msgspec.structs.replace(config(tmp_path, 4001), scalers=scalers)
    done = reload(old, lambda: new, 3)
    assert done.config.scalers == scalers
    assert done.config.settings == old.settings
    assert msgspec.json.decode(done.changed.scalers, type=ScalerConfig) == scalers
    assert done.changed.warnings == ("careful",)
    assert (done.result.ok, done.result.rev) == (True, 3)
    assert done.restart == ("port",)
    assert done.result.problems == ("port: changed, takes effect after a restart",)


def test_a_bad_file_changes_nothing_and_every_problem_is_told(tmp_path):
    old = config(tmp_path, 4000)
    done = reload(old, refuse("one", "two"), 1)
    assert done.config is old
    assert done.changed is None
    assert done.result.problems == ("scalers.yaml: one", "scalers.yaml: two")


def test_an_unreadable_file_is_a_refusal_too(tmp_path):
    def load() -> Config:
        raise PermissionError("denied")

    done = reload(config(tmp_path, 4000), load, 1)
    assert (done.result.ok, done.result.problems) == (False, ("denied",))


def test_a_mistake_of_ours_in_reading_is_a_refusal_with_its_stack_in_the_log(tmp_path, caplog):
    def load() -> Config:
        raise TypeError("hunter2")

    done = reload(config(tmp_path, 4000), load, 1)
    assert (done.result.ok, done.changed) == (False, None)
    assert "TypeError" in done.result.problems[0]
    assert "hunter2" not in done.result.problems[0]
    assert [record.exc_info[0] for record in caplog.records] == [TypeError]


def test_what_holds_changes_with_a_good_file_and_stays_with_a_bad_one(tmp_path):
    old, answers = config(tmp_path, 4000), []
    new = msgspec.structs.replace(old, scalers=ScalerConfig(global_max_agents=7))
    configuration = Configuration(old, lambda: answers.pop()())
    answers += [refuse("one"), lambda: new]
    assert configuration.reload().result.rev == 1
    held = configuration.now
    assert held.scalers.global_max_agents == 7
    assert configuration.reload().result.rev == 2
    assert configuration.now is held
