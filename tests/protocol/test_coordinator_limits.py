"""The failure limit per address (peer spec 1.7)."""

from kici.protocol.coordinator_limits import MAX_ADDRESSES, WINDOW_S, FailureLimit


# C15
def test_fifth_failure_blocks_one_address_until_its_window_ends():
    limit = FailureLimit()
    for second in range(4):
        limit.failed("10.0.0.1", float(second))
    assert not limit.blocked("10.0.0.1", 4)
    limit.failed("10.0.0.1", 4)
    assert limit.blocked("10.0.0.1", 5)
    assert not limit.blocked("10.0.0.2", 5)
    assert limit.blocked("10.0.0.1", WINDOW_S - 0.1)
    assert not limit.blocked("10.0.0.1", WINDOW_S)


def test_number_of_remembered_addresses_is_bounded():
    limit = FailureLimit()
    for number in range(MAX_ADDRESSES + 10):
        limit.failed(str(number), 0.0)
    assert len(limit._windows) == MAX_ADDRESSES
    limit.sweep(WINDOW_S)
    assert limit._windows == {}
