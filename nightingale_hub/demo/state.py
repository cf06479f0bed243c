"""The demo's directory: passwords, ports, database and datasets of one hub on this machine."""

import fcntl
import os
import secrets
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from nightingale_hub.durable import find_json, save_json
from nightingale_hub.errors import Conflict
from nightingale_hub.ports import find_free_ports, is_free_port

DEFAULT_PORT = 8000
RESEARCHER = "ada"
ADMIN = "admin"


@dataclass
class DemoState:
    """What `jupyterhub_config.py` reads from demo.json; passwords stay over restarts."""

    url: str
    hub_port: int
    proxy_port: int
    hub_db_url: str
    db_url: str
    user_password: str
    admin_password: str
    users: list[str]
    admin: str


def default_directory() -> Path:
    """Return the demo's directory: beside the virtual environment that runs it."""
    return Path(sys.prefix).parent / ".demo"


def lock(directory: Path) -> int:
    """Hold *directory* for this process and return the descriptor that does.

    Raises `Conflict` when another demo runs there.
    """
    directory.mkdir(parents=True, mode=0o711, exist_ok=True)
    descriptor = os.open(directory / "demo.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise Conflict(
            f"a demo already runs in {directory}; stop it with Ctrl-C in its terminal, or give "
            "this one a directory of its own with --state"
        ) from error
    return descriptor


def prepare(directory: Path, port: int | None, db_url: str | None = None) -> DemoState:
    """Write demo.json (0600) with free ports and return it.

    *port* None takes 8000 when it is free, else any. Passwords of an earlier run are kept.
    """
    path = directory / "demo.json"
    earlier = find_json(path) or {}
    ports = find_free_ports(3)
    if port is None:
        port = DEFAULT_PORT if is_free_port(DEFAULT_PORT) else ports[0]
    elif not is_free_port(port):
        raise Conflict(f"port {port} is taken; give another with --port")
    state = DemoState(
        url=f"http://127.0.0.1:{port}",
        hub_port=ports[1],
        proxy_port=ports[2],
        hub_db_url=f"sqlite:///{directory / 'jupyterhub.sqlite'}",
        db_url=db_url or f"sqlite:///{directory / 'nightingale.sqlite'}",
        user_password=earlier.get("user_password") or secrets.token_urlsafe(9),
        admin_password=earlier.get("admin_password") or secrets.token_urlsafe(24),
        users=[RESEARCHER],
        admin=ADMIN,
    )
    save_json(path, asdict(state))
    return state
