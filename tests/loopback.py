"""Servers of the tests, which answer on loopback for as long as a test needs them."""

import random
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import ThreadingHTTPServer
from typing import TypeVar


# Seconds that a server may take to start, to answer or to stop: with some, ten where nothing else runs.
PATIENCE = 300
AnyServer = TypeVar("AnyServer", bound=ThreadingHTTPServer)


@contextmanager
def serving(server: AnyServer) -> Iterator[AnyServer]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def free_ports(count: int) -> list[int]:
    """
    Ports of loopback on which nobody listens, for servers that must be told theirs.

    They lie below those that systems give to outgoing connections, which could take one before the server does.
    """
    with ExitStack() as stack:
        ports: list[int] = []
        while len(ports) < count:
            port, free = random.randrange(10_000, 32_000), stack.enter_context(socket.socket())
            try:
                free.bind(("127.0.0.1", port))
            except OSError:
                continue
            ports.append(port)
        return ports
