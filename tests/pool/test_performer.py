"""What the core decides, done; and what cannot be done, told."""

from kici.contracts.wire.agent.session import ErrorMessage
from kici.pool.actions import CloseAgent, PauseAgent, ResumeAgent, SendAgent
from kici.pool.events import SendFailed
from kici.pool.performer import Performer


class Connection:
    connection_id, agent_id = "c1", "a1"

    def __init__(self, takes=True):
        self.done, self._takes = [], takes

    def send(self, message):
        self.done.append(message)
        return self._takes

    def close(self, code, reason):
        self.done.append((code, reason))

    def pause(self):
        self.done.append("pause")

    def resume(self):
        self.done.append("resume")


class Shell:
    def try_tell(self, to, view):
        return True


def performer(connection=None):
    failed = []
    made = Performer(Shell(), None, failed.append)
    if connection is not None:
        made.connections[connection.connection_id] = connection
    return made, failed


MESSAGE = ErrorMessage(code="c", message="m")


def test_a_frame_that_an_open_socket_does_not_take_ends_the_connection():
    """The core forgets the agent: connected it would wait for ever for somebody to speak."""
    connection = Connection(takes=False)
    made, failed = performer(connection)
    made.perform(SendAgent("c1", MESSAGE))
    assert failed == [SendFailed("c1", MESSAGE)]
    assert connection.done == [MESSAGE, (1001, "Frame could not be sent")]


def test_what_is_for_a_connection_that_is_gone_is_harmless():
    made, failed = performer()
    made.perform(SendAgent("c1", MESSAGE))
    assert failed == [SendFailed("c1", MESSAGE)]
    for action in (CloseAgent("c1", 1001, "x"), PauseAgent("c1"), ResumeAgent("c1")):
        made.perform(action)


def test_a_closed_connection_is_forgotten():
    connection = Connection()
    made, _ = performer(connection)
    for action in (PauseAgent("c1"), ResumeAgent("c1"), CloseAgent("c1", 1001, "x")):
        made.perform(action)
    assert connection.done == ["pause", "resume", (1001, "x")]
    assert not made.connections
