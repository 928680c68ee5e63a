"""What ``peer_child`` starts: the peer's ``run`` with a configuration from stdin.

Arguments: a log file, then ``neighbour=descriptor`` for each link.
"""

from gevent import monkey

monkey.patch_all()

import json  # noqa: E402
import logging  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402

import msgspec  # noqa: E402

from kici.config.model import Config  # noqa: E402
from kici.peer.main import run  # noqa: E402
from kici.shell.child import ChildBoot  # noqa: E402

_KNOWN = logging.LogRecord("", 0, "", 0, "", (), None).__dict__


class Lines(logging.Formatter):
    """One JSON object a line with every extra field, for the tests to search."""

    def format(self, record):
        extra = {k: v for k, v in record.__dict__.items() if k not in _KNOWN}
        line = {"level": record.levelname, "message": record.getMessage(), **extra}
        if record.exc_info:
            line["stack"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def main():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    config = msgspec.json.decode(sys.stdin.buffer.read(), type=Config)
    handler = logging.FileHandler(sys.argv[1])
    handler.setFormatter(Lines())
    logging.basicConfig(handlers=[handler], level=logging.DEBUG, force=True)
    fds = dict(item.split("=") for item in sys.argv[2:])
    boot = ChildBoot(
        name="peer", config=config, link_fds={name: int(fd) for name, fd in fds.items()}
    )
    return run(boot)


if __name__ == "__main__":
    sys.exit(main())
