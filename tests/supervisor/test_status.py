from kici.supervisor.status import ServiceStatus


class Told:
    """A notifier that writes down what it is told."""

    def __init__(self, watchdog_s: float | None = None) -> None:
        self.watchdog_s = watchdog_s
        self.words: list[str] = []

    def __getattr__(self, word: str):
        return lambda *_text: self.words.append(word)


RUNNING = {"peer": "running", "pool": "running", "web": "running"}


def test_ready_is_said_once_when_all_three_serve():
    told = Told()
    status = ServiceStatus(told)
    status.children({"peer": "running"}, True)  # the others are not made yet
    status.children(RUNNING, False)
    assert "ready" not in told.words
    status.children(RUNNING, True)
    status.children(RUNNING, True)
    assert told.words.count("ready") == 1


def test_a_reload_is_bracketed_after_ready_and_silent_before():
    told = Told()
    status = ServiceStatus(told)
    status.reloading()
    status.reloaded()
    assert told.words == []
    status.children(RUNNING, True)
    status.reloading()
    status.reloaded()
    assert told.words == ["ready", "reloading", "ready"]


def test_the_watchdog_is_fed_three_times_a_period_while_all_is_well():
    told = Told(watchdog_s=30.0)
    status = ServiceStatus(told)
    for now in range(31):
        status.tick(float(now), True)
    assert told.words == ["watchdog"] * 4
    status.tick(40.0, False)
    assert told.words == ["watchdog"] * 4


def test_without_a_watchdog_there_is_no_deadline():
    status = ServiceStatus(Told())
    status.tick(5.0, True)
    assert status.deadline is None
