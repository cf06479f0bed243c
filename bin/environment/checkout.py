"""The tree to run from: the checkout, or a copy where the checkout is out of other users' reach.

As root, researchers' servers run as users of their own and import the product from this tree. A
checkout under a directory of mode 0700 (root's home, one that mktemp made) is closed to them.
"""

import fcntl
import hashlib
import os
import shutil
from pathlib import Path

from environment.interpreter import is_open_to_all

COPIES = Path("/var/lib/nightingale-hub")
_ORIGIN = Path("build", "origin")  # in a copy: which checkout it is of
_OWN_TO_EACH_TREE = {".git", ".venv", ".hypothesis", "build", "node_modules", "__pycache__"}


def find_home(root: Path) -> Path:
    """Return where the checkout at *root* runs: itself, or the place of its copy."""
    if os.geteuid() != 0 or is_open_to_all(root):
        return root
    return COPIES / hashlib.sha256(os.fsencode(root)).hexdigest()[:12]


def sync_copy(root: Path, home: Path) -> int:
    """Make *home* hold the files of *root*, readable by all; return how many changed.

    What belongs to one tree (environment, state, caches) is neither copied nor removed.
    """
    (home / "build").mkdir(parents=True, exist_ok=True)
    (home / _ORIGIN).write_bytes(os.fsencode(root))
    wanted = set(list_files(root))
    changed = 0
    for stale in set(list_files(home)) - wanted:
        (home / stale).unlink()
        changed += 1
    for name in wanted:
        changed += _copy_if_changed(root / name, home / name)
    for directory in {home / name.parent for name in wanted} | {home}:
        directory.chmod(0o755)
    return changed


def prune_copies(copies: Path) -> list[Path]:
    """Delete each copy in *copies* whose checkout is gone, and return which.

    One that is being set up stays, and so does one that holds a demo's data, researchers' homes
    among it: `bin/demo --remove` in it is for a person to say.
    """
    gone = [origin.parents[1] for origin in copies.glob(f"*/{_ORIGIN}") if not _leads(origin)]
    pruned = []
    for copy in sorted(gone):
        if any(copy.glob(".demo*")):
            continue
        try:
            with (copy / "build" / "setup.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(copy)
        except (BlockingIOError, FileNotFoundError):  # another set-up works in it, or deletes it
            continue
        pruned.append(copy)
    return pruned


def _leads(origin: Path) -> bool:
    try:
        return Path(os.fsdecode(origin.read_bytes())).is_dir()
    except FileNotFoundError:  # another set-up deletes it now
        return True


def list_files(root: Path) -> list[Path]:
    """Return the files that a clone of *root* has, relative to it: no state, cache or build."""
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not _belongs_to_one_tree(name)]
        found += [Path(folder, name).relative_to(root) for name in files]
    return found


def _belongs_to_one_tree(folder: str) -> bool:
    return (
        folder in _OWN_TO_EACH_TREE
        or folder.startswith(".demo")
        or folder.endswith((".egg-info", "_cache"))
    )


def _copy_if_changed(source: Path, target: Path) -> bool:
    now = source.stat()
    mode = 0o755 if now.st_mode & 0o100 else 0o644
    if target.is_file():
        then = target.stat()
        if (now.st_size, now.st_mtime_ns) == (then.st_size, then.st_mtime_ns):
            return False
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.new")
    shutil.copy2(source, draft)
    draft.chmod(mode)
    draft.replace(target)
    return True
