"""A job that no agent had when the whole worker died ends as soon as that is proven."""

import time

from tests.support.house import House, wait_for

#: As shipped: what is not proven would be waited for so long.
GRACE_S = 120.0


# A78
def test_a_job_that_no_agent_had_fails_long_before_the_grace_time(tmp_path):
    house = House(tmp_path)
    try:
        mute = tmp_path / "mute"
        mute.write_text("#!/bin/sh\nexec sleep 600\n")
        mute.chmod(0o755)
        usual = house.scalers.read_text()
        lines = [
            f"{line.partition(':')[0]}: {mute}" if "binaryPath:" in line else line
            for line in usual.splitlines()
        ]
        house.write_scalers("\n".join(lines))
        house.start()
        lost = house.submit("lost", "echo never")
        wait_for(lambda: house.agents(), "an agent is on its way")
        house.kill_worker()
        house.kill_agents()
        wait_for(lambda: not house.agents(), "nobody is left")
        begin = time.monotonic()
        house.write_scalers(usual)
        house.start_worker()
        row = house.wait_end(lost, GRACE_S)
        took = time.monotonic() - begin
        assert (row["state"], row["reason"]) == ("failed", "worker restarted")
        assert took < GRACE_S / 2, took
        assert house.wait_end(house.submit("next", "echo ran"))["state"] == "success"
    finally:
        house.close()
    assert not house.agents()
