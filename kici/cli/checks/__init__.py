"""The checks of ``kici-worker doctor``, one file a subject."""
