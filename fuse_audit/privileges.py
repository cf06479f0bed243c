"""What a process of the audit mount may do: as little as its work needs, for ever.

The daemon meets what researchers send, so it keeps two rights of root alone: to read each file of
a dataset whatever its mode (CAP_DAC_READ_SEARCH), and to learn which program stands behind a
thread (CAP_SYS_PTRACE, which /proc/PID/exe asks for).
"""

import contextlib
import ctypes
import os
import resource
import signal
import struct

_DAC_READ_SEARCH = 2
_SYS_PTRACE = 19
_KEPT = 1 << _DAC_READ_SEARCH | 1 << _SYS_PTRACE

# ref: https://man7.org/linux/man-pages/man2/prctl.2.html
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_KEEPCAPS = 8
_PR_SET_NAME = 15
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION_3 = 0x20080522
_HIGHEST_CAPABILITY = 63

_libc = ctypes.CDLL(None, use_errno=True)


def harden() -> None:
    """Let nobody look into this process, and let it open as many files as it ever may."""
    os.umask(0o077)
    # Nobody looks into this process: it holds open files of every dataset.
    _prctl(_PR_SET_DUMPABLE, 0)
    with contextlib.suppress(ValueError, OSError):
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def forbid_new_privileges() -> None:
    """Let no program that this process starts be more than it is."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def become_daemon(uid: int, parent_pid: int) -> None:
    """Turn this process of root into the daemon's: user *uid*, two capabilities, no way back.

    It dies with its parent. Raises `OSError` when any of it fails.
    """
    for capability in range(_HIGHEST_CAPABILITY + 1):
        if not _KEPT >> capability & 1:
            _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)  # EINVAL behind the last one.
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    _prctl(_PR_SET_KEEPCAPS, 1)
    os.setresuid(uid, uid, uid)
    _set_capabilities(_KEPT)
    finish_daemon(parent_pid)


def finish_daemon(parent_pid: int) -> None:
    """Bind this process to its parent *parent_pid* and close it to others."""
    forbid_new_privileges()
    _prctl(_PR_SET_DUMPABLE, 0)  # A change of user has set it anew.
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:  # It died before it was asked to take us along.
        os.kill(os.getpid(), signal.SIGKILL)
    name_process(b"nightingale-aud")


def name_process(name: bytes) -> None:
    """Show this process as *name*, at most 15 bytes."""
    buffer = ctypes.create_string_buffer(name)
    # The buffer itself: its address as a number would be cut to 32 bits.
    _libc.prctl(_PR_SET_NAME, buffer, 0, 0, 0)


def _set_capabilities(kept: int) -> None:
    # Effective, permitted, inheritable; the low 32 bits of each, then the high ones.
    header = struct.pack("<Ii", _CAPABILITY_VERSION_3, 0)
    low, high = kept & 0xFFFFFFFF, kept >> 32
    data = struct.pack("<6I", low, low, 0, high, high, 0)
    if _libc.capset(header, data):
        raise OSError(ctypes.get_errno(), "capset")


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), f"prctl {option}")
