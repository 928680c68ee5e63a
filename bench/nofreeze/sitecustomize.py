"""Only for ``bench.choices``: a Python whose ``gc.freeze`` does nothing."""

import gc

gc.freeze = lambda: None
