"""pytest under gevent's monkey patching, as the pool process runs: ``patched_pytest.py ARGS``."""

from gevent import monkey

monkey.patch_all()

import sys  # noqa: E402

import pytest  # noqa: E402

if __name__ == "__main__":
    sys.exit(pytest.main(sys.argv[1:]))
