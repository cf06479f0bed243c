"""The demo's directory: passwords, ports, database and datasets of one hub on this machine."""

import fcntl
import os
import secrets
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from nightingale_hub.durable import find_json, save_json
from nightingale_hub.errors import Conflict
from nightingale_hub.ports import find_free_ports, is_free_port
from nightingale_hub.processes import end_all, list_marked, wait_gone
from nightingale_hub.settings import NightingaleHub

DEFAULT_PORT = 8000
# In the environment of the hub and of what it starts; instances do not get it.
MARK = "NIGHTINGALE_DEMO_STATE"
EARLIER_ENDS_WITHIN_S = 10.0
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
    """Write demo.json (0600) and return it; ends a hub whose demo was killed, within 20 s.

    *port* None takes the earlier one or 8000 when it is free, else any. The passwords of an
    earlier run are kept, and its ports where they are free: an instance that it left calls them.
    Raises `Conflict` for a taken port, `ConfigError` for a wrong database.
    """
    path = directory / "demo.json"
    earlier = find_json(path) or {}
    _end_earlier_hub(directory)
    if port is not None and not is_free_port(port):
        raise Conflict(f"port {port} is taken; give another with --port")
    spare = find_free_ports(3)
    if port is None:
        port = _choose_port(urlsplit(earlier.get("url", "")).port, DEFAULT_PORT, spare[0])
    state = DemoState(
        url=f"http://127.0.0.1:{port}",
        hub_port=_choose_port(earlier.get("hub_port"), spare[1]),
        proxy_port=_choose_port(earlier.get("proxy_port"), spare[2]),
        hub_db_url=f"sqlite:///{directory / 'jupyterhub.sqlite'}",
        db_url=NightingaleHub(
            db_url=db_url or f"sqlite:///{directory / 'nightingale.sqlite'}"
        ).db_url,
        user_password=earlier.get("user_password") or secrets.token_urlsafe(9),
        admin_password=earlier.get("admin_password") or secrets.token_urlsafe(24),
        users=[RESEARCHER],
        admin=ADMIN,
    )
    save_json(path, asdict(state))
    return state


def _end_earlier_hub(directory: Path) -> None:
    """Let a hub whose demo was killed end in order, then end what is left of it."""
    deadline = time.monotonic() + EARLIER_ENDS_WITHIN_S
    left = list_marked(MARK, str(directory))
    for each in left:
        wait_gone(each, max(0.0, deadline - time.monotonic()))
    end_all(left, EARLIER_ENDS_WITHIN_S)


def _choose_port(earlier: int | None, *others: int) -> int:
    """Return the first of the given ports that is free; the last one is."""
    return next(port for port in (earlier, *others) if port is not None and is_free_port(port))
