"""Measurements of a worker and a coordinator under a load made of our own pure machines."""
