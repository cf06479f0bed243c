"""The room: the place, outside the home, that an instance shows to its researcher.

It holds the datasets' mountpoint and the status. The home is its owner's, who could put a link
where root is about to mount; so the mountpoint stands in a directory that only root can change,
and the home gets a link to it, made as the user. In a mount namespace of its own the room is a
small tmpfs that nobody else sees and that is gone with the instance, and the home is shown
in it, so that a state directory which is closed to all but root does not close the home.
"""

import os
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nightingale_hub.durable import save_json
from nightingale_hub.errors import BadInput
from nightingale_hub.instance import kernel
from nightingale_hub.instance.account import Account

# The same in every instance: a path in a researcher's own files stays true in the next one.
ISOLATED_ROOM = Path("/run/nightingale")
ISOLATED_HOME = ISOLATED_ROOM / "home"
LINK = "datasets"


@dataclass(frozen=True)
class Room:
    """Where things are as the server sees them."""

    path: Path
    home: Path

    @property
    def mountpoint(self) -> Path:
        """Where the datasets are mounted."""
        return self.path / "datasets"

    @property
    def status_file(self) -> Path:
        """The status, readable by everyone in the instance."""
        return self.path / "status.json"

    def save_status(self, status: dict[str, Any]) -> None:
        """Replace the status."""
        save_json(self.status_file, status, 0o644)


def ensure_room(directory: Path, home: Path, is_isolated: bool) -> Room:
    """Make the room of the instance in *directory*, with *home* in it where it is isolated."""
    if is_isolated:
        ISOLATED_ROOM.mkdir(mode=0o755, exist_ok=True)
        flags = kernel.MS_NOSUID | kernel.MS_NODEV
        kernel.mount("nightingale", ISOLATED_ROOM, "tmpfs", flags, "mode=0755,size=1m")
        ISOLATED_HOME.mkdir()
        kernel.bind(home, ISOLATED_HOME)
        # Whoever opens their home to all opens it to no other researcher.
        kernel.mount("nightingale", home.parent, "tmpfs", flags, "mode=0700,size=4k")
        room = Room(ISOLATED_ROOM, ISOLATED_HOME)
    else:
        room = Room(_find_plain_room(directory), home)
        room.path.mkdir(exist_ok=True)
        room.path.chmod(0o755)
    room.mountpoint.mkdir(exist_ok=True)
    room.mountpoint.chmod(0o755)
    return room


def clear_room(directory: Path) -> None:
    """Remove what `ensure_room` left outside a namespace; succeeds when nothing did."""
    room = Room(_find_plain_room(directory), directory)
    if not room.path.is_dir():
        return
    _detach_mount(room.mountpoint)
    room.status_file.unlink(missing_ok=True)
    for empty in (room.mountpoint, room.path):
        with suppress(OSError):  # busy yet: it holds nothing, so it may stay
            empty.rmdir()


def link_datasets(account: Account, room: Room, is_mounted: bool) -> None:
    """Put `~/datasets` in place as *account*, or take ours away when nothing is mounted.

    Raises `BadInput` when the name is taken by something of the researcher's.
    """
    link = room.home / LINK

    def place() -> None:
        if link.is_symlink() and Path(os.readlink(link)).name == LINK:
            link.unlink()
        if is_mounted:
            link.symlink_to(room.mountpoint)

    if not account.run(place):
        raise BadInput(f"~/{LINK} is a file of yours, so the datasets are at {room.mountpoint}")


def _find_plain_room(directory: Path) -> Path:
    # Root's own directory is closed to other users, so theirs must stand elsewhere.
    if os.geteuid() == 0:
        return Path(f"{ISOLATED_ROOM}-{directory.name}")
    return directory / "room"


def _detach_mount(mountpoint: Path) -> None:
    """Take away a mount whose daemon was killed; does nothing where nothing is mounted."""
    if os.geteuid() == 0:
        with suppress(OSError):
            kernel.detach_mount(mountpoint)
    else:
        command = ["fusermount3", "-u", "-z", "-q", "--", str(mountpoint)]
        with suppress(FileNotFoundError):
            subprocess.run(command, capture_output=True, check=False, timeout=10)
