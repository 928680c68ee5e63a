"""Which login a job's own ``containerRegistryAuth`` gives for its image."""

import pytest

from kici.pool.scalers.images import login_for

IMAGE = "r.example:5000/team/img:1"


# S113
@pytest.mark.parametrize(
    ("image", "auth", "login"),
    [
        (IMAGE, {"username": "bob", "password": "p"}, ("bob", "p")),
        (IMAGE, {"password": "p"}, ("x-access-token", "p")),
        (IMAGE, {"password": "p", "serverAddress": "r.example:5000"}, ("x-access-token", "p")),
        (
            IMAGE,
            {"password": "p", "serverAddress": "https://r.example:5000/v2/"},
            ("x-access-token", "p"),
        ),
        (
            "team/img",
            {"password": "p", "serverAddress": "https://index.docker.io/v1/"},
            ("x-access-token", "p"),
        ),
        (IMAGE, {"password": "p", "serverAddress": "other.example"}, None),
        ("img", {"password": "p", "serverAddress": "r.example:5000"}, None),
        (IMAGE, {"username": "bob"}, None),
        (IMAGE, {"password": 5}, None),
        (IMAGE, None, None),
    ],
)
def test_a_jobs_login_is_for_the_registry_of_its_image_only(image, auth, login):
    expected = None if login is None else dict(zip(("username", "password"), login, strict=True))
    assert login_for(image, auth) == expected
