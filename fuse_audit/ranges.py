"""What is read past the daemon, gathered in the kernel: the supervisor's side of policy `ranges`.

The programs are `ranges.bpf.c`, compiled where the package is set up (`build`) and loaded by
libbpf. A harvest puts an empty map in the place of the full one; the kernel returns from that
once no program uses the full one any more, so that nothing is lost between the two.
"""

import ctypes
import mmap
import os
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from nightingale_hub.errors import MountRefused
from nightingale_hub.fuse_audit.descriptor import Descriptor
from nightingale_hub.fuse_audit.mappings import Mappings

PAGE_BYTES = 4096
# In the place of a device: the inode is one of the mount, not of a source.
MOUNT = 0
UNKNOWN_UID = (1 << 32) - 1
TO_THE_END = (1 << 63) - 1
_STRETCH_PAGES = 64
_SOURCE = Path(__file__).with_name("ranges.bpf.c")
_OBJECT = Path(__file__).with_name("ranges.bpf.o")
_KEY = struct.Struct("<QQIII4x")
_VALUE = struct.Struct("<Q")
_BATCH = 4096
_ENOENT = 2
_COMPILED_WITHIN_S = 60


class Charge(NamedTuple):
    """What process *tgid* of *uid* was given of file *ino* on *device*: whole pages.

    Of a mapping the user is not told.
    """

    device: int
    ino: int
    tgid: int
    uid: int
    offset: int
    end: int


class Harvest(NamedTuple):
    """All charges since the last harvest; after a loss nobody knows what else was read."""

    charges: list[Charge]
    is_lossy: bool


def build() -> str | None:
    """Compile the programs; return why that is not possible here, or None when it is done."""
    compiler = shutil.which("clang")
    if compiler is None:
        return "clang is not installed"
    machine = os.uname().machine
    target = {"x86_64": "x86", "aarch64": "arm64"}.get(machine, machine)
    draft = _OBJECT.with_suffix(f".{os.getpid()}")
    try:
        ended = subprocess.run(
            [compiler, "-O2", "-g", "-Wall", "-Werror", "-target", "bpf",
             f"-D__TARGET_ARCH_{target}", f"-I/usr/include/{machine}-linux-gnu",
             "-c", str(_SOURCE), "-o", str(draft)],
            capture_output=True, text=True, timeout=_COMPILED_WITHIN_S, check=False,
        )  # fmt: skip
        if ended.returncode:
            return f"clang refused {_SOURCE.name}: {(ended.stderr.splitlines() or ['?'])[0]}"
        os.chmod(draft, 0o644)
        os.replace(draft, _OBJECT)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{_OBJECT} could not be made: {error}"
    finally:
        draft.unlink(missing_ok=True)
    return None


class Watch:
    """The loaded programs, for some devices; they end with this process."""

    def __init__(self, mount: int) -> None:
        """Load and attach them, for the mount whose `st_dev` is *mount*.

        Raises `MountRefused` with the reason.
        """
        self._mount = mount
        if not _OBJECT.exists():
            raise MountRefused(
                "the programs for policy ranges are not built; install clang and libbpf-dev, "
                "then run: python -m nightingale_hub.fuse_audit.ranges"
            )
        try:
            self._libbpf = _load_library()
        except OSError as error:
            raise MountRefused(f"policy ranges needs libbpf: {error}") from error
        bpf = self._libbpf
        self._object = bpf.bpf_object__open_file(os.fsencode(_OBJECT), None)
        if not self._object:
            raise MountRefused(f"{_OBJECT} is no BPF object: {_explain()}")
        if bpf.bpf_object__load(self._object):
            raise MountRefused(f"this kernel takes no BPF programs of ours: {_explain()}")
        program = None
        while program := bpf.bpf_object__next_program(self._object, program):
            if not bpf.bpf_program__attach(program):
                name = bpf.bpf_program__name(program).decode()
                raise MountRefused(f"this kernel does not let {name} be watched: {_explain()}")
        self._bits = [self._get_map(b"bits_0"), self._get_map(b"bits_1")]
        self._active = self._get_map(b"active")
        self._devices = self._get_map(b"devices")
        self._lost = self._get_map(b"lost")
        self._mappings = Mappings()
        self._turn = 0
        self._seen_lost = 0
        self.watched: set[int] = set()

    def add(self, device: int) -> None:
        """Gather what is read from the filesystem *device* (`st_dev`) too."""
        self.watched.add(device)
        number = ctypes.c_uint32(os.major(device) << 20 | os.minor(device))
        self._update(self._devices, number, ctypes.c_uint8(1))

    def check(self, path: str) -> None:
        """Read the file at *path*, in each way that there is, and see that it was seen.

        Raises `MountRefused`: on such a filesystem what is read is not known.
        """
        for name, flag in (("read", 0), ("O_DIRECT", os.O_DIRECT)):
            self.harvest()
            try:
                file = Descriptor(os.open(path, os.O_RDONLY | os.O_CLOEXEC | flag))
                size = os.preadv(file.fd, [mmap.mmap(-1, PAGE_BYTES)], 0)
            except OSError:
                continue  # It has no such way.
            found = os.fstat(file.fd)
            seen = [(each.ino, each.tgid) for each in self.harvest().charges]
            if size and (found.st_ino, os.getpid()) not in seen:
                raise MountRefused(f"the kernel does not tell of {name} on this filesystem")

    def harvest(self) -> Harvest:
        """Take what was gathered since the last time; waits some milliseconds for the kernel."""
        full = self._bits[self._turn]
        self._turn = 1 - self._turn
        self._update(self._active, ctypes.c_uint32(0), ctypes.c_uint32(self._bits[self._turn]))
        charges = []
        for (ino, stretch, device, tgid, uid), pages in self._take(full):
            base = stretch * _STRETCH_PAGES
            st_dev = os.makedev(device >> 20, device & 0xFFFFF)
            for first, end in list_runs(pages):
                start, stop = (base + first) * PAGE_BYTES, (base + end) * PAGE_BYTES
                charges.append(Charge(st_dev, ino, tgid, uid, start, stop))
        mapped, is_lossy = self._mappings.take()
        for device, ino, pid, offset in mapped:
            if device == self._mount:
                charges.append(Charge(MOUNT, ino, pid, UNKNOWN_UID, offset, TO_THE_END))
            elif device in self.watched:  # So says a kernel before 6.14.
                charges.append(Charge(device, ino, pid, UNKNOWN_UID, offset, TO_THE_END))
        lost = self._count_lost()
        is_lossy, self._seen_lost = is_lossy or lost != self._seen_lost, lost
        return Harvest(merge(charges), is_lossy)

    def _update(self, map_fd: int, key: Any, value: Any) -> None:
        if self._libbpf.bpf_map_update_elem(map_fd, ctypes.byref(key), ctypes.byref(value), 0):
            raise OSError(ctypes.get_errno(), _explain())

    def _take(self, map_fd: int) -> list[tuple[tuple[int, ...], int]]:
        """Take every entry out of a map."""
        keys = ctypes.create_string_buffer(_BATCH * _KEY.size)
        values = ctypes.create_string_buffer(_BATCH * _VALUE.size)
        position = ctypes.create_string_buffer(_KEY.size)
        count = ctypes.c_uint32()
        begun = None
        found: list[tuple[tuple[int, ...], int]] = []
        while True:
            count.value = _BATCH
            failed = self._libbpf.bpf_map_lookup_and_delete_batch(
                map_fd, begun, position, keys, values, ctypes.byref(count), None
            )
            code = ctypes.get_errno()
            packed = keys.raw[: count.value * _KEY.size], values.raw[: count.value * _VALUE.size]
            found += zip(
                _KEY.iter_unpack(packed[0]),
                (value for (value,) in _VALUE.iter_unpack(packed[1])),
                strict=True,
            )
            if failed:
                if code != _ENOENT:  # That one is the end.
                    raise OSError(code, os.strerror(code))
                return found
            begun = position

    def _count_lost(self) -> int:
        value = ctypes.c_uint64()
        key = ctypes.c_uint32(0)
        if self._libbpf.bpf_map_lookup_elem(self._lost, ctypes.byref(key), ctypes.byref(value)):
            raise OSError(ctypes.get_errno(), _explain())
        return value.value

    def _get_map(self, name: bytes) -> int:
        found = self._libbpf.bpf_object__find_map_by_name(self._object, name)
        return int(self._libbpf.bpf_map__fd(found))


def list_runs(pages: int) -> list[tuple[int, int]]:
    """Return the runs of set bits in *pages*, each as first and behind the last."""
    runs = []
    at = 0
    while pages >> at:
        first = at + ((pages >> at) & -(pages >> at)).bit_length() - 1
        ones = ~(pages >> first)
        at = first + (ones & -ones).bit_length() - 1
        runs.append((first, at))
    return runs


def merge(charges: list[Charge]) -> list[Charge]:
    """Return *charges* in order, with those joined that touch."""
    merged: list[Charge] = []
    for charge in sorted(charges):
        last = merged[-1] if merged else None
        if last is not None and last[:4] == charge[:4] and charge.offset <= last.end:
            merged[-1] = last._replace(end=max(last.end, charge.end))
        else:
            merged.append(charge)
    return merged


def _load_library() -> ctypes.CDLL:
    library = ctypes.CDLL("libbpf.so.1", use_errno=True)
    pointers = {
        "bpf_object__open_file": [ctypes.c_char_p, ctypes.c_void_p],
        "bpf_object__next_program": [ctypes.c_void_p, ctypes.c_void_p],
        "bpf_program__attach": [ctypes.c_void_p],
        "bpf_object__find_map_by_name": [ctypes.c_void_p, ctypes.c_char_p],
    }
    for name, arguments in pointers.items():
        function = getattr(library, name)
        function.restype, function.argtypes = ctypes.c_void_p, arguments
    library.bpf_program__name.restype = ctypes.c_char_p
    library.bpf_program__name.argtypes = [ctypes.c_void_p]
    library.bpf_object__load.argtypes = library.bpf_map__fd.argtypes = [ctypes.c_void_p]
    library.libbpf_set_print(None)  # What it has to say is in errno; it would write on stderr.
    return library


def _explain() -> str:
    return os.strerror(ctypes.get_errno())


if __name__ == "__main__":
    reason = build()
    print(f"policy ranges is not built: {reason}" if reason else f"built {_OBJECT}")
    raise SystemExit(1 if reason else 0)
