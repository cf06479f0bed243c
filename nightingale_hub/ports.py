"""Free ports on loopback, so that nothing here assumes a number that another program may hold."""

import socket


def find_free_ports(count: int) -> list[int]:
    """Return *count* different ports that were free a moment ago."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


def is_free_port(port: int) -> bool:
    """Tell whether a server could listen on *port* now."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
