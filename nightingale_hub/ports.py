"""Free ports on loopback, so that nothing here assumes a number that another program may hold."""

import random
import socket
from collections.abc import Collection
from pathlib import Path

from nightingale_hub.errors import ConfigError

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


def parse_service_ports(ports: dict[str, int], services: Collection[str]) -> dict[str, int]:
    """Return *ports*, one for each service that they name; raises `ConfigError` for a wrong one."""
    unknown = sorted(set(ports) - set(services))
    if unknown:
        raise ConfigError(
            f"c.NightingaleHub.service_ports names {', '.join(unknown)}; "
            f"the services are {', '.join(services)}"
        )
    given = list(ports.values())
    if len(set(given)) != len(given) or not all(0 < port < 65536 for port in given):
        raise ConfigError(
            f"c.NightingaleHub.service_ports is {ports}; each service needs a port of its own, "
            "from 1 to 65535"
        )
    return dict(ports)
