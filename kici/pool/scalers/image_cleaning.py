"""Deletes images that we pulled and that nobody needs any more (issue 4 item 8).

An image goes only when all of this holds: we pulled it; each of its names is one that we
pulled it by; no label set names it; no launch wants it; no container of anybody uses it; and
it is unused for too long, or all of ours are too much. The engine has the last word: it is
never forced.
"""

import logging
import time
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from kici.pool.scalers.base import CleaningBudget
from kici.pool.scalers.engine import CONFLICT, MISSING, TRANSPORT, classify
from kici.pool.scalers.image_facts import image_facts, plain_id
from kici.pool.scalers.images import split_reference
from kici.pool.scalers.pulled_images import PulledImage, PulledImages

log = logging.getLogger("kici.pool.container")
#: Wanted by a launch so lately: its container may not be there yet. Longer than a pull.
WANTED_S = 3600.0
_DAY_S = 86400.0
_MIB = 2**20


class Unneeded(msgspec.Struct, frozen=True):
    """An image to delete, and why, for the log."""

    image: PulledImage
    why: str


def choose(
    images: Sequence[PulledImage], needed: set[str], budget: CleaningBudget, now: float
) -> list[Unneeded]:
    """What goes, the longest unused first. ``needed`` are image ids, ``now`` wall clock."""
    chosen = []
    total = sum(one.n_bytes for one in images)
    for one in sorted(images, key=lambda each: each.used_at):
        age, most = now - one.used_at, budget.images_max_age_s
        if one.image_id in needed:
            continue
        if most and age > most:
            why = f"unused for {age / _DAY_S:.1f} days, KICI_CLEAN_IMAGES_MAX_AGE is {most:g} s"
        elif budget.images_max_bytes and total > budget.images_max_bytes:
            limit = budget.images_max_bytes // _MIB
            why = f"our images are {total // _MIB} MiB, KICI_CLEAN_IMAGES_MAX is {limit} MiB"
        else:
            continue
        total -= one.n_bytes
        chosen.append(Unneeded(one, why))
    return chosen


def clean_images(client: Any, engine: str, pulled: PulledImages, budget: CleaningBudget) -> None:
    """Look at one engine; ``EngineError`` when it does not answer."""
    if not (budget.images_max_age_s or budget.images_max_bytes):
        return
    ours = pulled.of(engine)
    if not ours:
        return
    try:
        needed = _needed(client, budget.named | pulled.wanted_lately(engine, WANTED_S))
        gone = {one.image_id for one in ours if image_facts(client, one.image_id) is None}
        pulled.settle(engine, needed, gone)
        there = [one for one in pulled.of(engine) if one.image_id not in gone]
        for found in choose(there, needed, budget, time.time()):
            if _delete(client, found):
                pulled.settle(engine, (), [found.image.image_id])
    except TRANSPORT as error:
        raise classify(error) from None


def _needed(client: Any, names: Iterable[str]) -> set[str]:
    """Ids of images that containers of anybody, in any state, or ``names`` refer to."""
    found = {plain_id(row.get("ImageID") or "") for row in client.containers(all=True)}
    for name in names:
        facts = image_facts(client, name)
        if facts is not None:
            found.add(facts.image_id)
    return found


def _delete(client: Any, found: Unneeded) -> bool:
    """Name after name, the last takes the image with it; True when it is gone."""
    image = found.image
    facts = image_facts(client, image.image_id)
    if facts is None:
        return True
    ours = {_short(reference) for reference in image.references}
    if strange := [name for name in facts.names if _short(name) not in ours]:
        log.info("Leaving image %s: somebody named it %s", image.image_id[:12], strange[0])
        return False
    extra = {"image": image.references[-1], "imageId": image.image_id[:12], "reason": found.why}
    try:
        for name in facts.names or (image.image_id,):
            client.remove_image(name)
    except TRANSPORT as error:
        known = classify(error)
        if known.kind == CONFLICT:
            log.info("Leaving an image that is in use", extra=extra)
            return False
        if known.kind != MISSING:
            raise known from None
    log.info("Deleted an image that we pulled", extra={**extra, "bytes": image.n_bytes})
    return True


def _short(reference: str) -> str:
    """One spelling: ``docker.io/library/alpine`` and ``alpine:latest`` are the same."""
    repository, tag = split_reference(reference)
    for prefix in ("docker.io/library/", "docker.io/", "index.docker.io/"):
        repository = repository.removeprefix(prefix)
    return f"{repository}@{tag}"
