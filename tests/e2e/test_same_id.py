"""Two workers with one instance id: an operator reads what is wrong."""

from tests.support.house import House
from tests.support.waiting import wait_for


# C18 P25
def test_two_workers_with_one_instance_id_say_so(tmp_path):
    houses = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        houses.append(House(tmp_path / name))
    one, other = houses
    seen = set()

    def look():
        for house in houses:
            seen.update(row["reason"] for row in house.status().get("coordinators", ()))
        return any("another worker uses the instance id worker-1" in reason for reason in seen)

    try:
        one.start_coordinator()
        other.link_port = other.coordinator_port = one.coordinator_port
        one.start_worker(one.join_token())
        other.start_worker(one.join_token(), connected=False)
        wait_for(look, f"the reason is shown; seen: {seen}", 30)
        lines = [line for house in houses for line in house.worker.lines()]
        assert any("another worker uses" in str(line.get("error")) for line in lines)
    finally:
        other.close()
        one.close()
