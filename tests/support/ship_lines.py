"""Ships N lines to the Loki at URL as the web process does: ``ship_lines.py URL N``.

Prints the shipper's facts and its resident memory before and after, as JSON.
"""

import gevent.monkey

gevent.monkey.patch_all()

import json  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402

import gevent  # noqa: E402

from kici.log_lines import timestamp  # noqa: E402
from kici.web.loki_batch import MAX_BUFFER_BYTES  # noqa: E402
from kici.web.shipper import Shipper  # noqa: E402
from tests.support.web_child import settings  # noqa: E402


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def main() -> None:
    url, n_lines = sys.argv[1], int(sys.argv[2])
    pace = len(sys.argv) < 4  # without pace the buffer overflows during an outage
    shipper = Shipper(settings("/nonexistent", loki_url=url))
    gevent.spawn(shipper.run)
    first = 0
    for number in range(n_lines):
        fields = {"jobId": "j", "level": "info", "message": str(number)}
        line = json.dumps({**fields, "timestamp": timestamp(time.time())})
        shipper.offer(line.encode())
        if number % 500 == 0:
            gevent.sleep(0)
        if number == n_lines // 10:
            first = resident()
        while pace and shipper.buffer.n_bytes > MAX_BUFFER_BYTES // 2:
            gevent.sleep(0.01)
    shipper.finish(180)
    print(json.dumps({**shipper.facts(), "grown": resident() - first}))


main()
