"""The agent's /health and /ready on a real socket (agent spec 6.1)."""

import re
import signal
import socket

from tests.support.house import free_port, http
from tests.support.waiting import wait_for


def test_health_is_always_200_and_ready_only_while_registered(worker, start_agent):
    port = free_port()
    start_agent(KICI_PORT=str(port), KICI_HOST="127.0.0.1")
    side = worker.accept()
    base = f"http://127.0.0.1:{port}"
    status, body = wait_for(lambda: (found := http("GET", base + "/health"))[0] and found)
    assert (status, body["connected"], body["activeJobs"]) == (200, False, 0)
    assert re.match(r"\d+\.\d+", body["version"])
    assert http("GET", base + "/ready")[0] == 503
    side.register()
    wait_for(lambda: http("GET", base + "/ready")[0] == 200)
    side.dispatch([{"run": "sleep 60"}])
    wait_for(lambda: http("GET", base + "/health")[1]["activeJobs"] == 1)
    side.cut()
    wait_for(lambda: http("GET", base + "/ready")[0] == 503)
    assert http("GET", base + "/health")[0] == 200
    assert http("GET", base + "/else")[0] == 404


def test_a_port_in_use_costs_the_probes_and_not_the_agent(worker, start_agent):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        agent = start_agent(KICI_PORT=port, KICI_HOST="127.0.0.1")
        worker.accept().register()
        agent.signal(signal.SIGTERM)
        assert agent.wait() == 0
    assert f"Cannot serve /health on 127.0.0.1:{port}" in agent.errors()
