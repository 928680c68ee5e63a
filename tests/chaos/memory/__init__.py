"""The whole chain in one process under a virtual clock: the product's own code, from the
coordinator's service to the pool's core, on a gevent loop whose time only moves when nothing
is left to do. A schedule of 10 virtual minutes takes some tens of milliseconds."""
