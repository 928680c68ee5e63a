"""The coordinator dies, or its disk refuses, at each commit of a job's life in turn (C38, C45,
C46, C51, C52): workers that keep their promises end each job once, whatever they had heard."""

import pytest

from kici.coordinator.job import ACK_TIMEOUT_S, QUEUE_TIMEOUT_S
from kici.coordinator.store import StoreError
from tests.coordinator.world import World, native

#: Longer than the offers and the absence of a worker that are waited for.
PATIENCE_S = 300
ENDED = ("success", "failed", "cancelled")


class Crash(BaseException):
    """SIGKILL: nothing of ours catches it."""


class Disk:
    """Strikes at the ``at``-th commit: dies before it, dies after it, or refuses it."""

    def __init__(self, at, how):
        self.at, self.how, self.n = at, how, 0

    def watch(self, store):
        real = store.commit

        def commit():
            if not store.dirty:
                return
            self.n += 1
            if self.n != self.at:
                real()
            elif self.how == "refuses":
                store.rollback()
                raise StoreError("disk full")
            else:
                if self.how == "dies after":
                    real()
                raise Crash

        store.commit = commit


class Worker:
    """Keeps each promise, over any number of links: one execution a job, its end until acked."""

    def __init__(self, world, name):
        self.world, self.name = world, name
        self.jobs = {}  # job id -> (reroute, state)
        self.ends = {}
        self.dead = False

    def connect(self):
        if not self.dead:
            self.world.connect(self.name, native(free=5))
            for reroute, state in list(self.jobs.values()):
                self.world.report(self.name, reroute, state)

    def work(self):
        """Read what was said; False when it was nothing."""
        link = self.world.links.get(self.name)
        if self.dead or link is None:
            return False
        said, link.said = link.said, []
        for message in said:
            kind = message["type"]
            job_id = message.get("jobId")
            if kind == "job.reroute":
                self.take(message)
            elif kind == "peer.job.cancel" and job_id in self.jobs:
                self.say(job_id, "cancelled")
            elif kind == "job.progress.ack":
                self.jobs.pop(job_id, None)
        return bool(said)

    def overhear(self):
        """Read the last words of a coordinator that is dead by now."""
        link = self.world.links.get(self.name)
        for message in [] if self.dead or link is None else link.said:
            if message["type"] == "job.reroute":
                self.start(message)
            elif message["type"] == "peer.job.cancel" and message["jobId"] in self.jobs:
                self.move(message["jobId"], "cancelled")

    def take(self, reroute):
        self.start(reroute)
        self.world.ack(self.name, reroute)
        self.say(reroute["jobId"], "running")

    def start(self, reroute):
        job_id = reroute["jobId"]
        if job_id not in self.jobs:
            self.jobs[job_id] = (reroute, "running")

    def say(self, job_id, state):
        self.move(job_id, state)
        self.world.report(self.name, *self.jobs[job_id])

    def move(self, job_id, state):
        reroute, known = self.jobs[job_id]
        if known not in ENDED:  # an end is never taken back
            self.jobs[job_id] = (reroute, state)
            if state in ENDED:
                self.ends[job_id] = state


class Hopeless(Worker):
    """Cannot start an agent for any job."""

    def start(self, reroute):
        """Nothing."""

    def take(self, reroute):
        self.world.ack(self.name, reroute)
        self.world.scaler_event(self.name, reroute, "scaler.failed")
        self.world.report(self.name, reroute, "failed")


class Story:
    """A world whose coordinator comes back whenever it died; workers then come back, too."""

    def __init__(self, path, disk, last_words):
        self.disk, self.last_words = disk, last_words
        self.world = World(path)
        self.disk.watch(self.world.store)
        self.workers = [Worker(self.world, name) for name in ("w1", "w2")]
        self.verdicts = {}

    def step(self, act, *args):
        """Do it, over a death or a refusal of the coordinator; its result, None after those."""
        try:
            return act(*args)
        except StoreError:
            return None
        except Crash:
            if self.last_words == "heard":
                for worker in self.workers:
                    worker.overhear()
            # Everything but the file is gone; recovery may meet the same disk.
            self.world.restart(crash=True)
            self.disk.watch(self.world.store)
            # Who had nothing comes first, and is offered whatever looks free.
            for worker in reversed(self.workers):
                self.step(worker.connect)
            return None
        finally:
            self.check()

    def settle(self):
        while any(self.step(worker.work) for worker in self.workers):
            pass

    def pass_time(self, seconds):
        for _ in range(int(seconds)):
            self.step(self.world.pass_time, 1)
            self.settle()

    def check(self):
        """What has ended stays as it ended."""
        for row in self.world.rows.listed(100):
            if row["state"] in ENDED:
                told = self.verdicts.setdefault(row["jobId"], row["state"])
                assert row["state"] == told

    def job_ids(self):
        return [row["jobId"] for row in self.world.rows.listed(100)]


def plain(story):
    """Accepted, run, done."""
    first, _ = story.workers
    story.step(first.connect)
    story.step(story.world.submit)
    story.settle()
    for job_id in list(first.jobs):
        story.step(first.say, job_id, "success")
    story.settle()


def waiting(story):
    """Nobody is there at first."""
    story.step(story.world.submit)
    for worker in story.workers:
        story.step(worker.connect)
        story.settle()


def slow(story):
    """The first worker reads its offer when it has been taken back already."""
    first, second = story.workers
    story.step(first.connect)
    first.dead = True
    story.step(story.world.submit)
    story.pass_time(ACK_TIMEOUT_S + 2)
    first.dead = False
    story.settle()
    story.step(second.connect)
    story.settle()


def cancelled(story):
    first, _ = story.workers
    story.step(first.connect)
    story.step(story.world.submit)
    story.settle()
    for job_id in story.job_ids():
        story.step(cancel, story.world, job_id)
    story.settle()


def cancel(world, job_id):
    world.dispatcher.cancel(job_id, "x", False, world.now)
    world.store.commit()  # as the API does before it answers


def moved(story):
    """The first worker hears nothing and says nothing; the second one does the work."""
    first, second = story.workers
    story.step(story.world.connect, "w1", native(free=5))
    first.dead = True
    story.step(story.world.submit)
    story.pass_time(ACK_TIMEOUT_S + 1)
    story.step(second.connect)
    story.pass_time(2)
    story.settle()
    for job_id in list(second.jobs):
        story.step(second.say, job_id, "success")
    story.settle()


def refused_spawn(story):
    """The first worker accepts and cannot start an agent; its end comes too late to count."""
    story.workers[0] = first = Hopeless(story.world, "w1")
    story.step(first.connect)
    story.step(story.world.submit)
    story.settle()
    story.step(story.workers[1].connect)
    story.settle()


def finish(story):
    """Who has a job ends it; who is waited for is given up; a job that nobody takes fails."""
    for _ in range(int(QUEUE_TIMEOUT_S / PATIENCE_S) + 3):
        for worker in story.workers:
            for job_id in list(worker.jobs):
                story.step(worker.say, job_id, "success")
        story.settle()
        if all(row["state"] in ENDED for row in story.world.rows.listed(100)):
            return
        story.pass_time(PATIENCE_S)


STORIES = [plain, waiting, slow, cancelled, moved, refused_spawn]


@pytest.mark.parametrize("last_words", ["heard", "lost"])
@pytest.mark.parametrize("how", ["dies before", "dies after", "refuses"])
@pytest.mark.parametrize("tell", STORIES)
def test_a_job_ends_once_whichever_commit_is_struck(tmp_path, tell, how, last_words):
    struck, at = True, 0
    while struck:
        at += 1
        assert at < 50
        disk = Disk(at, how)
        story = Story(tmp_path / str(at), disk, last_words)
        tell(story)
        struck = disk.n >= at
        finish(story)
        for row in story.world.rows.listed(100):
            said = [worker.ends.get(row["jobId"]) for worker in story.workers]
            assert row["state"] in (set(said) - {None} or ENDED), (at, row, said)
            assert row["state"] != "cancelled" or tell is cancelled, (at, "nobody wanted that")
        for worker in story.workers:
            assert worker.jobs == {}, (at, "an end that nobody acknowledged")
        done = [j for w in story.workers for j, end in w.ends.items() if end == "success"]
        assert len(done) == len(set(done)), (at, "two executions")
        story.world.store.close()
    assert at > 2
