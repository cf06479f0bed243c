"""Free ports on loopback, so that nothing here assumes a number that another program may hold."""

import random
import socket
from pathlib import Path

EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
LOWEST = 10_000


def find_free_ports(count: int) -> list[int]:
    """Return *count* different ports that were free a moment ago.

    They lie below those that the kernel gives away by itself, so no outgoing connection takes one
    before it is used. Raises `OSError` when there are not that many.
    """
    highest = int(EPHEMERAL.read_text().split()[0])
    candidates = range(LOWEST, highest) if highest > LOWEST else range(1024, 65536)
    ports: list[int] = []
    for port in random.sample(candidates, len(candidates)):
        if len(ports) == count:
            return ports
        if is_free_port(port):
            ports.append(port)
    raise OSError(f"{count} ports of {candidates} are not free")


def is_free_port(port: int) -> bool:
    """Tell whether a server could listen on *port* now."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
