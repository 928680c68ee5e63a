"""What the parent imports before it forks, so that the children share it copy-on-write.

Importing here must not make a gevent hub (a test asserts it): a greenlet of the parent would
go on running in every child.
"""

import contextlib
import importlib
from collections.abc import Mapping

from kici.contracts.states import ChildName
from kici.supervisor.fork import RunChild

#: The children's own modules bring what they need. The list names only what they reach
#: lazily through gevent in every process (95-200 ms of patch_all() each otherwise).
GEVENT_MODULES = (
    "gevent.event",
    "gevent.lock",
    "gevent.os",
    "gevent.pool",
    "gevent.queue",
    "gevent.select",
    "gevent.selectors",
    "gevent.server",
    "gevent.signal",
    "gevent.socket",
    "gevent.subprocess",
    "gevent.thread",
    "gevent.threading",
    "gevent.threadpool",
    "gevent.time",
    "gevent.builtins",
    "gevent.resolver.thread",
    "gevent.monkey._patch_thread_common",
    "_threading_local",
)
#: Reached by patch_all() and the title in every child; named differently by version.
OPTIONAL_MODULES = (
    "gevent.monkey._patch_thread_lt313",
    "gevent.monkey._patch_thread_gte313",
    "setproctitle",
)
CHILD_MODULES: Mapping[ChildName, str] = {
    ChildName.PEER: "kici.peer.main",
    ChildName.POOL: "kici.pool.main",
    ChildName.WEB: "kici.web.main",
}


def patch_ssl() -> None:
    """Must come before anything imports urllib3 or requests (RecursionError in every TLS
    context of the children otherwise)."""
    from gevent import monkey

    without_plugins()
    if not monkey.is_module_patched("ssl"):
        monkey.patch_ssl()


def without_plugins() -> None:
    """Keep gevent from looking for plugins in every installed distribution at each of its
    patches: that reads every package's metadata in each child, for nothing."""
    from gevent import events

    events.notify_and_call_entry_points = events.notify


def import_gevent() -> None:
    for name in GEVENT_MODULES:
        importlib.import_module(name)
    for name in OPTIONAL_MODULES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def warm_crypto() -> None:
    """Do once what every peer link does: OpenSSL's tables are then made in the parent and
    shared. Its random numbers are safe across a fork."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    from kici.protocol import handshake

    one, other = X25519PrivateKey.generate(), X25519PrivateKey.generate()
    nonce = bytes(handshake.NONCE_BYTES)
    key = handshake.session_key(one, handshake.public_spki(other), nonce)
    sealer = handshake.Sealer(key)
    sealer.open(sealer.seal(b"", bytes(handshake.IV_BYTES)))


def real_children() -> dict[ChildName, RunChild]:
    """Import the three children; name -> ``run(boot)``."""
    warm_crypto()
    return {name: importlib.import_module(path).run for name, path in CHILD_MODULES.items()}
