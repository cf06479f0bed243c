"""Attacks on an audit mount, run as whom a test says: `python -S attacker.py SETTINGS`.

Prints one JSON object: what each attack got, "refused" with its errno, or what it reached. It
imports nothing of the product, and stops at no failure.
"""

import ctypes
import errno
import json
import os
import resource
import signal
import stat
import struct
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
PROC = ("root", "cwd", "exe", "fd", "map_files", "ns/mnt", "mem", "maps", "environ", "io", "stack")
PTRACE_ATTACH, PTRACE_SEIZE = 16, 0x4206
SYS_PIDFD_GETFD, SYS_PROCESS_VM_READV, SYS_OPEN_BY_HANDLE_AT = 438, 310, 304
SYS_NAME_TO_HANDLE_AT, SYS_MOVE_PAGES, SYS_FANOTIFY_INIT, SYS_BPF = 303, 279, 300, 321
MS_BIND, MNT_DETACH = 4096, 2


def check(result):
    """Return *result* of a system call, or raise what went wrong."""
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def read_proc(pid, name):
    path = f"/proc/{pid}/{name}"
    if name in ("root", "cwd", "exe", "fd", "map_files"):
        return os.listdir(path) if name != "exe" else open(path, "rb").read(1)
    with open(path, "rb") as file:
        return file.read(1)


def write_proc(pid, name, text):
    with open(f"/proc/{pid}/{name}", "w") as file:
        return file.write(text)


def get_descriptor(pid):
    pidfd = os.pidfd_open(pid)
    return [check(LIBC.syscall(SYS_PIDFD_GETFD, pidfd, fd, 0)) for fd in range(3, 20)]


def read_memory(pid):
    buffer = ctypes.create_string_buffer(8)
    vector = struct.pack("QQ", ctypes.addressof(buffer), 8)
    other = struct.pack("QQ", 0x400000, 8)
    return check(LIBC.syscall(SYS_PROCESS_VM_READV, pid, vector, 1, other, 1, 0))


def open_by_handle(path):
    handle = ctypes.create_string_buffer(struct.pack("Ii", 128, 0) + bytes(128))
    mount = ctypes.c_int()
    name = os.fsencode(path)
    LIBC.syscall(SYS_NAME_TO_HANDLE_AT, -100, name, handle, ctypes.byref(mount), 0)
    directory = os.open("/", os.O_RDONLY)
    return check(LIBC.syscall(SYS_OPEN_BY_HANDLE_AT, directory, handle, os.O_RDONLY))


def make_device(settings):
    path = os.path.join(settings["writable"], f"device-{os.getpid()}")
    os.mknod(path, stat.S_IFBLK | 0o666, settings["device"])
    return open(path, "rb").read(1)


def open_device(settings):
    device = settings["device"]
    return open(f"/dev/block/{os.major(device)}:{os.minor(device)}", "rb").read(1)


def list_connections():
    """Abort every FUSE connection that can be seen."""
    top = "/sys/fs/fuse/connections"
    reached = []
    for name in os.listdir(top):
        with open(f"{top}/{name}/abort", "w") as file:
            reached.append(file.write("1"))
    if not reached:
        raise OSError(errno.ENOENT, "none is seen")
    return reached


def bind_over(settings):
    target = os.fsencode(settings["mountpoint"])
    return check(LIBC.mount(os.fsencode(settings["writable"]), target, None, MS_BIND, None))


def list_attacks(settings):
    mountpoint, source, spool = settings["mountpoint"], settings["source"], settings["spool"]
    for pid in settings["pids"]:
        for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM):
            yield f"kill {number.name}", lambda p=pid, n=number: os.kill(p, n)
        yield "pidfd_send_signal", lambda p=pid: signal.pidfd_send_signal(os.pidfd_open(p), 9)
        for request in (PTRACE_ATTACH, PTRACE_SEIZE):
            yield f"ptrace {request}", lambda p=pid, r=request: check(LIBC.ptrace(r, p, 0, 0))
        for name in PROC:
            yield f"/proc {name}", lambda p=pid, n=name: read_proc(p, n)
        for name, text in (("mem", "x"), ("oom_score_adj", "1000"), ("comm", "x")):
            yield f"write {name}", lambda p=pid, n=name, t=text: write_proc(p, n, t)
        yield "pidfd_getfd", lambda p=pid: get_descriptor(p)
        yield "process_vm_readv", lambda p=pid: read_memory(p)
        yield "prlimit", lambda p=pid: resource.prlimit(p, resource.RLIMIT_NOFILE, (0, 0))
        yield "affinity", lambda p=pid: os.sched_setaffinity(p, {0})
        yield "priority", lambda p=pid: os.setpriority(os.PRIO_PROCESS, p, 19)
        yield (
            "move_pages",
            lambda p=pid: check(LIBC.syscall(SYS_MOVE_PAGES, p, 0, None, None, None, 0)),
        )
    yield "umount", lambda: check(LIBC.umount2(os.fsencode(mountpoint), 0))
    yield "umount lazily", lambda: check(LIBC.umount2(os.fsencode(mountpoint), MNT_DETACH))
    if not settings["is_root_of_its_own"]:  # That one changes what itself sees, as everybody may.
        yield "bind over", lambda: bind_over(settings)
        yield (
            "bind source",
            lambda: check(
                LIBC.mount(
                    os.fsencode(source), os.fsencode(settings["writable"]), None, MS_BIND, None
                )
            ),
        )
    yield "mknod", lambda: make_device(settings)
    yield "raw device", lambda: open_device(settings)
    yield "open_by_handle_at", lambda: open_by_handle(f"{mountpoint}/d/f")
    yield "source", lambda: open(f"{source}/f", "rb").read()
    yield "source listed", lambda: os.listdir(source)
    yield "spool listed", lambda: os.listdir(spool)
    yield "spool notes", lambda: open(f"{spool}/notes.json", "w")
    yield "spool receipt", lambda: open(f"{spool}/receipt.json", "w")
    yield "spool key", lambda: open(f"{spool}/stream.json").read()
    yield "connections", list_connections
    yield "fanotify", lambda: check(LIBC.syscall(SYS_FANOTIFY_INIT, 4, 0))
    yield "bpf", lambda: check(LIBC.syscall(SYS_BPF, 5, bytes(128), 128))
    yield "write", lambda: open(f"{mountpoint}/d/f", "r+b")
    yield "create", lambda: open(f"{mountpoint}/d/new", "wb")
    yield "remove", lambda: os.unlink(f"{mountpoint}/d/f")
    yield "hard link", lambda: os.link(f"{mountpoint}/d/f", f"{settings['writable']}/f")


def main():
    with open(sys.argv[1]) as file:
        settings = json.load(file)
    settings["is_root_of_its_own"] = os.geteuid() == 0
    refused: list[list[str]] = []
    reached: list[list[str]] = []
    for name, attack in list_attacks(settings):
        try:
            got = attack()
        except OSError as error:
            refused.append([name, errno.errorcode.get(error.errno or 0, "?")])
        else:
            reached.append([name, repr(got)[:100]])
    json.dump({"refused": refused, "reached": reached}, sys.stdout)


if __name__ == "__main__":
    main()
