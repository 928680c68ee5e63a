"""A receipt is given when what it confirms is safe, not before."""

import json

from kici.contracts.link.jobs import JobFinished, JobOffered, JobStored
from tests.support.pool_child import PoolChild
from tests.support.pool_world import key, reroute


# A90, P54
def test_no_pong_before_the_end_of_the_job_is_stored(tmp_path):
    pool = PoolChild(tmp_path)
    try:
        agent = pool.agent()
        pool.peer.tell(JobOffered(key=key("j1"), message_id="o", reroute=reroute("j1")))
        agent.hear("job.dispatch")
        agent.job("job.ack")
        agent.job("job.status", state="success")
        pong = agent.ping()
        finished = pool.peer.hear(JobFinished)[0]
        assert json.loads(finished.frame)["state"] == "success"
        # The end is told and not yet stored: it is the receipt's turn only after that.
        assert not pong.is_set()
        pool.peer.tell(JobStored(key=key()))
        assert pong.wait(5)
        agent.close()
    finally:
        pool.close()


def test_pongs_come_at_once_while_no_end_is_owed(tmp_path):
    pool = PoolChild(tmp_path)
    try:
        agent = pool.agent()
        assert agent.ping().wait(5)
        agent.close()
    finally:
        pool.close()
