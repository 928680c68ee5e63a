"""Images that we pulled are deleted under a budget; nobody else's ever is."""

import logging
import subprocess
import sys

import pytest

from kici.pool.scalers import image_cleaning
from kici.pool.scalers.base import CleaningBudget
from tests.support import image_registry
from tests.support.backend_world import EventKind, World, until
from tests.support.container_engine import IMAGE, REGISTRY_PORT

pytestmark = pytest.mark.engine


@pytest.fixture
def registry(engine):
    process = subprocess.Popen(
        [*engine.nft[:-1], sys.executable, image_registry.__file__, str(REGISTRY_PORT)],
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"ready\n"
    yield
    process.kill()
    process.wait(5)
    process.stdout.close()


@pytest.fixture
def world(engine, registry, tmp_path, monkeypatch):
    """A backend whose launches are long ago as soon as they are over."""
    monkeypatch.setattr(image_cleaning, "WANTED_S", 0.0)
    found = World(engine, tmp_path)
    until(lambda: found.backend.health() == "")
    before = image_ids(found)
    yield found
    for one in image_ids(found) - before:
        found.client().remove_image(one, force=True)
    found.backend.close()


def image_ids(world):
    return {one["Id"] for one in world.client().images()}


def reference(name):
    return f"127.0.0.1:{REGISTRY_PORT}/{name}:1"


def pull_by_launch(world, *names):
    """Have the backend pull them; nothing in them can run, so that each agent ends at once."""
    for name in names:
        agent = world.launch(image=reference(name), policy="IfNotPresent")
        until(lambda one=agent: {EventKind.FAILED, EventKind.EXITED} & set(world.kinds(one)))
    assert there(world, *names) == set(names)


def there(world, *names):
    tags = {tag for one in world.client().images() for tag in one["RepoTags"] or ()}
    return {name for name in names if reference(name) in tags}


def clean(world, **budget):
    world.backend.clean(CleaningBudget(**budget))


def test_an_old_image_that_we_pulled_is_deleted_and_the_log_says_why(world, caplog):
    caplog.set_level(logging.INFO)
    pull_by_launch(world, "ours/old")
    clean(world, images_max_age_s=3600.0)
    assert there(world, "ours/old")
    clean(world, images_max_age_s=1e-6)
    assert not there(world, "ours/old")
    (said,) = [one for one in caplog.records if "Deleted an image" in one.message]
    assert said.image == reference("ours/old")
    assert "KICI_CLEAN_IMAGES_MAX_AGE" in said.reason


def test_images_of_others_and_those_in_use_or_named_stay(world):
    world.client().pull(reference("theirs/pulled").rpartition(":")[0], tag="1")
    pull_by_launch(world, "theirs/pulled", "ours/used", "ours/named", "ours/tagged", "ours/old")
    container = world.client().create_container(reference("ours/used"), ["/nothing"])
    world.client().tag(reference("ours/tagged"), "somebody/wants-it", "2")
    named = frozenset({reference("ours/named"), "not/there:1"})
    clean(world, images_max_age_s=1e-6, images_max_bytes=1, named=named)
    stays = {"theirs/pulled", "ours/used", "ours/named", "ours/tagged"}
    assert there(world, *stays, "ours/old") == stays
    assert world.client().inspect_image(IMAGE)
    world.client().remove_container(container["Id"])
    clean(world, images_max_age_s=1e-6, named=named)
    assert there(world, "ours/used", "ours/named") == {"ours/named"}


def test_too_many_bytes_take_the_longest_unused_first(world):
    pull_by_launch(world, "ours/first", "ours/second")
    sizes = [
        world.client().inspect_image(reference(name))["Size"]
        for name in ("ours/first", "ours/second")
    ]
    clean(world, images_max_bytes=sum(sizes))
    assert there(world, "ours/first", "ours/second") == {"ours/first", "ours/second"}
    clean(world, images_max_bytes=sum(sizes) - 1)
    assert there(world, "ours/first", "ours/second") == {"ours/second"}


def test_what_was_pulled_is_known_after_a_restart(world, engine, tmp_path):
    pull_by_launch(world, "ours/before")
    later = World(engine, tmp_path)
    until(lambda: later.backend.health() == "")
    clean(later, images_max_age_s=1e-6)
    later.backend.close()
    assert not there(world, "ours/before")
