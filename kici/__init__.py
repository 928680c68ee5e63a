"""kici-worker: the edge worker of the KiCI continuous-integration system."""

__version__ = "0.1.0"
