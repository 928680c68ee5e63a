"""What the cleaning is told: the budget of the settings, and images that stay everywhere."""

import gevent
import msgspec

from kici.pool import cleaning
from kici.pool.cleaning import budget_of, keep_clean
from tests.support.pool_world import config, label_set, scaler

SETTINGS = {"clean_images_max_age_s": 5.0, "clean_images_max_bytes": 6, "clean_agents_max_age_s": 7}


def test_the_budget_names_the_images_of_all_scalers():
    boxes = scaler("s1", label_set("a", image="i:1"), label_set("b"))
    found = config(boxes, scaler("s2", label_set("c", image="j:1")), settings=SETTINGS)
    budget = budget_of(found.settings, found.scalers)
    assert budget.named == {"i:1", "j:1"}
    assert msgspec.structs.astuple(budget)[:3] == (5.0, 6, 7)


class Backend:
    def __init__(self, place):
        self.place, self.seen = place, []

    def cleans(self):
        return self.place

    def clean(self, budget):
        self.seen.append(budget)


def test_each_place_is_cleaned_again_and_again_with_the_budget_of_that_time(monkeypatch):
    monkeypatch.setattr(cleaning, "FIRST_CLEAN_S", 0.001)
    monkeypatch.setattr(cleaning, "CLEAN_EVERY_S", 0.001)
    first, same, second = Backend("engine 1"), Backend("engine 1"), Backend("engine 2")
    budgets = iter(range(10**6))
    runs = gevent.spawn(keep_clean, lambda: [first, same, second], lambda: next(budgets))
    with gevent.Timeout(5):
        while len(second.seen) < 3:
            gevent.sleep(0.002)
    runs.kill()
    assert sorted([*first.seen, *same.seen])[:2] == [0, 2]
    assert [] in (first.seen, same.seen)
    assert second.seen[:2] == [1, 3]
