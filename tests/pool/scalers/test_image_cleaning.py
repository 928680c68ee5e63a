"""Which images go, and how the record of pulled ones is kept."""

import pytest

from kici.pool.scalers.base import CleaningBudget
from kici.pool.scalers.image_cleaning import choose
from kici.pool.scalers.pulled_images import PulledImage, PulledImages

DAY = 86400.0
NOW = 100 * DAY


def image(name, days_ago, n_bytes=100):
    return PulledImage(
        image_id=name, references=(name,), used_at=NOW - days_ago * DAY, n_bytes=n_bytes
    )


IMAGES = [image("new", 1), image("old", 40), image("older", 50), image("middle", 10)]


@pytest.mark.parametrize(
    ("budget", "needed", "gone"),
    [
        ({}, set(), []),
        ({"images_max_age_s": 30 * DAY}, set(), ["older", "old"]),
        ({"images_max_age_s": 30 * DAY}, {"older"}, ["old"]),
        ({"images_max_bytes": 400}, set(), []),
        ({"images_max_bytes": 399}, set(), ["older"]),
        ({"images_max_bytes": 399}, {"older"}, ["old"]),
        ({"images_max_bytes": 1}, {"older", "new"}, ["old", "middle"]),
        ({"images_max_age_s": 45 * DAY, "images_max_bytes": 200}, set(), ["older", "old"]),
    ],
)
def test_the_longest_unused_go_first_and_needed_ones_never(budget, needed, gone):
    chosen = choose(IMAGES, needed, CleaningBudget(**budget), NOW)
    assert [one.image.image_id for one in chosen] == gone
    assert all("KICI_CLEAN_IMAGES_MAX" in one.why for one in chosen)


class Clock:
    now = NOW

    def __call__(self):
        return self.now


@pytest.fixture
def record(tmp_path):
    clock = Clock()
    made = PulledImages(str(tmp_path), clock)
    made.clock = clock
    return made


def ids(record, engine="e1"):
    return [(one.image_id, one.references) for one in record.of(engine)]


def test_a_pull_is_remembered_by_engine_and_by_all_its_names(record, tmp_path):
    record.pulled("e1", "a", "r/a:1", 5)
    record.pulled("e1", "a", "r/a:latest", 5)
    record.pulled("e2", "b", "r/b:1", 5)
    again = PulledImages(str(tmp_path))
    assert ids(again) == [("a", ("r/a:1", "r/a:latest"))]
    assert ids(again, "e2") == [("b", ("r/b:1",))]


def test_a_use_is_written_down_when_the_last_one_is_an_hour_old(record, tmp_path):
    record.pulled("e1", "a", "r/a:1", 5)
    (file,) = tmp_path.iterdir()
    before = file.read_bytes()
    record.clock.now += 600
    record.settle("e1", ["a"], [])
    assert file.read_bytes() == before
    record.clock.now += 3600
    record.settle("e1", ["a"], [])
    assert record.of("e1")[0].used_at == record.clock.now


def test_what_is_gone_is_forgotten(record):
    record.pulled("e1", "a", "r/a:1", 5)
    record.settle("e1", [], ["a"])
    assert record.of("e1") == []


def test_a_damaged_record_owns_no_image(record, tmp_path):
    record.pulled("e1", "a", "r/a:1", 5)
    (file,) = tmp_path.iterdir()
    file.write_text("{")
    assert record.of("e1") == []


def test_a_wanted_image_is_wanted_for_a_while_only(record):
    record.wanted("e1", "r/a:1")
    record.wanted("e2", "r/b:1")
    assert record.wanted_lately("e1", 60.0) == {"r/a:1"}
    assert record.wanted_lately("e1", -1.0) == set()
