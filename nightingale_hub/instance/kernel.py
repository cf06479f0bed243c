"""The few Linux calls behind an instance's isolation that Python 3.11 does not offer."""

import ctypes
import os
from pathlib import Path

CLONE_NEWNS = 0x00020000
CLONE_NEWPID = 0x20000000
MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC, MS_SLAVE = 32, 4096, 16384, 1 << 19
_MNT_DETACH = 2
_PR_SET_NO_NEW_PRIVS = 38

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = [ctypes.c_char_p] * 3 + [ctypes.c_ulong, ctypes.c_char_p]
_libc.umount2.argtypes = [ctypes.c_char_p, ctypes.c_int]


def unshare_namespaces() -> None:
    """Leave the caller's mount namespace, and give its next child a pid namespace of its own.

    Raises `OSError` where the machine does not allow it.
    """
    _check(_libc.unshare(CLONE_NEWNS | CLONE_NEWPID), "unshare")
    # What is mounted from here on is nobody else's; what the machine unmounts is let go here too.
    mount("none", Path("/"), "", MS_REC | MS_SLAVE)


def mount_proc() -> None:
    """Show only this pid namespace in /proc, and to each user only their own processes."""
    flags = MS_NOSUID | MS_NODEV | MS_NOEXEC
    mount("proc", Path("/proc"), "proc", flags, "hidepid=2")


def mount(source: str, target: Path, kind: str, flags: int, options: str = "") -> None:
    """Call mount(2); raises `OSError`."""
    result = _libc.mount(
        source.encode(), os.fsencode(target), kind.encode(), flags, options.encode()
    )
    _check(result, f"mount {target}")


def bind(source: Path, target: Path) -> None:
    """Show *source* at *target* too, without devices or set-user-id programs."""
    mount(str(source), target, "", MS_BIND)
    mount("none", target, "", MS_BIND | MS_REMOUNT | MS_NOSUID | MS_NODEV)


def detach_mount(target: Path) -> None:
    """Take what is mounted at *target* out of the tree, even while it is busy."""
    _check(_libc.umount2(os.fsencode(target), _MNT_DETACH), f"umount {target}")


def refuse_new_privileges() -> None:
    """Let no program below this process gain rights by set-user-id: no su, no sudo."""
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS")


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
