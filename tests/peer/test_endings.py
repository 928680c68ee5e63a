"""What an operator reads about a connection that ended."""

import pytest

from kici.peer.endings import Endings
from kici.peer.seam import Ending

NOBODY = Ending(1000, "No auth method")


@pytest.mark.parametrize(
    ("ending", "text"),
    [
        (Ending(0, "connection refused"), "connection refused"),
        (Ending(1006, ""), "closed with 1006"),
        (Ending(4001, "Invalid token"), "closed with 4001 Invalid token"),
        (Ending(4005, "1 < 2"), "closed with 4005 1 < 2 (Unsupported protocol version)"),
        (NOBODY, "closed with 1000 No auth method: no credential file and no join token"),
    ],
)
def test_an_end_is_shown_with_its_code_and_reason(ending, text):
    assert Endings("w", 1).explain(ending, None) == text


def test_who_is_superseded_reads_that_another_worker_uses_the_instance_id():
    endings = Endings("worker-1", 1)
    shown = endings.explain(Ending(4001, "Superseded", accepted=True), None)
    assert shown == "closed with 4001 Superseded: another worker uses the instance id worker-1"
    assert endings.superseded
    two = Endings("w", 2).explain(Ending(4001, "Superseded", accepted=True), None)
    assert two.endswith("(or two of our URLs lead to one coordinator)")


def test_without_a_credential_the_facts_say_who_took_it():
    endings = Endings("worker-1", 1)
    doubt = endings.explain(NOBODY, "Unknown credential")
    assert doubt.endswith(
        "the credential was refused (Unknown credential): "
        "it was revoked, or another worker uses the instance id worker-1"
    )
    endings.explain(Ending(4001, "Superseded", accepted=True), None)
    endings.explain(Ending(4001, "Unknown credential"), None)
    certain = endings.explain(NOBODY, "Unknown credential")
    assert certain.endswith("(Unknown credential): another worker uses the instance id worker-1")
    endings.explain(Ending(1006, "", accepted=True), None)
    assert not endings.superseded
