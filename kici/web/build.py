"""Facts of this build, computed once at import: the supervisor imports it before the fork."""

import hashlib
import os
from pathlib import Path

import kici

#: The reference reports three bundles; we are one package, so its hash stands for each.
_PACKAGE = Path(kici.__file__).parent


def _package_hash() -> str:
    digest = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*.py")):
        digest.update(path.relative_to(_PACKAGE).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


_HASH = _package_hash()

BUILD = {
    "version": kici.__version__,
    "buildCommit": os.environ.get("KICI_BUILD_COMMIT", "") or _HASH[:8],
    "sdkVersion": kici.__version__,
    "sdkBundleHash": _HASH,
    "sharedVersion": kici.__version__,
    "sharedBundleHash": _HASH,
    "engineVersion": kici.__version__,
    "engineBundleHash": _HASH,
}
