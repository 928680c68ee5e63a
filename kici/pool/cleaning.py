"""Leftovers are deleted under a budget, now and then (issue 4 item 8)."""

import random
from collections.abc import Callable, Iterable

import gevent

from kici.config.model import ScalerConfig, Settings
from kici.pool.scalers.base import Backend, CleaningBudget

#: After a start: agents come back first.
FIRST_CLEAN_S = 120.0
#: Between two looks; budgets count in days.
CLEAN_EVERY_S = 3600.0


def budget_of(settings: Settings, scalers: ScalerConfig) -> CleaningBudget:
    """What may stay; images of all label sets stay in every engine."""
    sets = [one for scaler in scalers.scalers for one in scaler.label_sets]
    return CleaningBudget(
        images_max_age_s=settings.clean_images_max_age_s,
        images_max_bytes=settings.clean_images_max_bytes,
        agents_max_age_s=settings.clean_agents_max_age_s,
        named=frozenset(one.image for one in sets if one.image),
    )


def keep_clean(
    backends: Callable[[], Iterable[Backend]], budget: Callable[[], CleaningBudget]
) -> None:
    """For ever; run in a greenlet. One place after the other: nobody waits for it."""
    gevent.sleep(FIRST_CLEAN_S * random.uniform(1.0, 1.5))
    while True:
        for backend in {one.cleans(): one for one in backends()}.values():
            backend.clean(budget())
        gevent.sleep(CLEAN_EVERY_S * random.uniform(0.9, 1.1))
