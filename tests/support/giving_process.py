"""The web process reduced to its hand-over: ``giving_process.py LINK_FD``.

Prints its port on the first line; serves until it is killed.
"""

import sys

from gevent.pywsgi import WSGIServer

from kici.shell.handover import handover_route
from kici.shell.link import Link, new_boot_id
from kici.shell.upgrade import upgrade_handler


def plain(_environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"plain"]


def main():
    link = Link(int(sys.argv[1]), name="web", neighbour="pool", boot_id=new_boot_id())
    handler = upgrade_handler({"/base/ws": handover_route(link.send)})
    server = WSGIServer(("127.0.0.1", 0), plain, handler_class=handler, log=None, backlog=512)
    server.start()
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
