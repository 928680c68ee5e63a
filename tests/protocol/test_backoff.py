"""kici/protocol/backoff.py: the delays of peer spec 1.8."""

import pytest

from kici.protocol.backoff import Redial, reconnect_delay_ms

ALMOST_ONE = 1 - 2**-53


# P7, W57
@pytest.mark.parametrize("attempt", range(10))
@pytest.mark.parametrize("u", [0.0, 0.25, 0.5, ALMOST_ONE])
def test_delay_follows_the_formula_below_the_cap(attempt, u):
    expected = 1000 * 1.5**attempt * (1 + u / 2)
    assert reconnect_delay_ms(attempt, u, 60_000) == pytest.approx(expected)
    assert 1000 * 1.5**attempt <= expected <= 1500 * 1.5**attempt


# P7
@pytest.mark.parametrize("attempt", [10, 11, 12, 50, 10**6])
def test_delay_never_exceeds_the_cap_and_still_varies_there(attempt):
    low = reconnect_delay_ms(attempt, 0.0, 60_000)
    high = reconnect_delay_ms(attempt, ALMOST_ONE, 60_000)
    assert 40_000 <= low < high <= 60_000


# P8
def test_redial_restarts_only_after_an_acceptance():
    redial = Redial(60_000)
    assert [redial.next_delay_ms(0.0) for _ in range(3)] == pytest.approx([1000, 1500, 2250])
    redial.accepted()
    assert redial.next_delay_ms(0.0) == pytest.approx(1000)


# W60
@pytest.mark.parametrize(
    ("code", "reason", "least"),
    [
        (4001, "Invalid token", 15_000),
        (4001, "Rate limited", 30_000),
        (4020, "Plan limit: this organization allows 3", 30_000),
        (4005, "Unsupported protocol version: 3 < 4", 30_000),
        (4001, "Unknown credential", 1000),
        (1006, "", 1000),
    ],
)
def test_refusals_that_cannot_heal_wait_longer(code, reason, least):
    assert Redial(60_000).next_delay_ms(0.0, code, reason) == pytest.approx(least)
    assert Redial(500).next_delay_ms(0.9, code, reason) <= 500
