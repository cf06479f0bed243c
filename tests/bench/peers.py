"""The audit mount's peers, which record nothing: bindfs, libfuse's passthrough_ll, and fusepy.

Each keeps names and attributes as long as the audit mount does. With `direct_io` none answers a
read from a cache, as the audit mount's policy `strict`; without, each caches as it can.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.audit_mount import LIMIT_S, is_mounted

VALID_S = 60  # as fuse_audit/kernel.py has it
_ROOT = Path(__file__).parents[2]
# Debian puts libfuse's own examples there, with the library's headers.
_EXAMPLE = Path("/usr/share/doc/libfuse3-dev/examples/passthrough_ll.c")
_PROGRAM = _ROOT / "build" / "bench" / "passthrough_ll"


def build_passthrough_ll() -> Path:
    """Compile libfuse's example once, and return it; raises `OSError` where that fails."""
    compiler = shutil.which("gcc") or shutil.which("clang")
    if compiler is None or not _EXAMPLE.exists():
        raise OSError("no passthrough_ll to compare with; try: apt-get install libfuse3-dev clang")
    if not _PROGRAM.exists():
        _PROGRAM.parent.mkdir(parents=True, exist_ok=True)
        flags = ["-I/usr/include/fuse3", "-O2", "-w", "-pthread", "-D_FILE_OFFSET_BITS=64"]
        command = [compiler, *flags, str(_EXAMPLE), "-o", str(_PROGRAM), "-lfuse3"]
        subprocess.run(command, check=True)
    return _PROGRAM


@contextmanager
def bindfs(data: Path, place: Path, *, is_direct: bool) -> Iterator[Path]:
    """Serve *data* through bindfs."""
    if not shutil.which("bindfs"):
        raise OSError("no bindfs to compare with; try: apt-get install bindfs")
    kept = f"ro,attr_timeout={VALID_S},entry_timeout={VALID_S}"
    options = f"{kept},direct_io" if is_direct else kept
    with _served(["bindfs", "-f", "-o", options, str(data)], place / f"bindfs-{is_direct}") as top:
        yield top


@contextmanager
def passthrough_ll(data: Path, place: Path, *, is_direct: bool) -> Iterator[Path]:
    """Serve *data* through libfuse's passthrough_ll."""
    cache = "never" if is_direct else "always"
    options = f"source={data},cache={cache},timeout={VALID_S},no_writeback"
    command = [str(build_passthrough_ll()), "-f", "-o", options]
    with _served(command, place / f"passthrough-{is_direct}") as top:
        yield top


@contextmanager
def fusepy(data: Path, place: Path, *, is_direct: bool) -> Iterator[Path]:
    """Serve *data* through fusepy."""
    command = [sys.executable, "-m", "tests.bench.loopback", str(data), str(int(is_direct))]
    with _served(command, place / f"fusepy-{is_direct}") as top:
        yield top


PEERS = {"bindfs": bindfs, "passthrough_ll": passthrough_ll, "fusepy": fusepy}


@contextmanager
def _served(command: list[str], point: Path) -> Iterator[Path]:
    point.mkdir()
    process = subprocess.Popen([*command, str(point)], cwd=_ROOT, stderr=subprocess.PIPE)
    deadline = time.monotonic() + LIMIT_S
    while not is_mounted(point):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            reason = process.communicate()[1].decode(errors="replace").strip()
            raise OSError(f"{command[0]} did not mount: {reason}")
        time.sleep(0.02)
    try:
        yield point
    finally:
        as_root = os.geteuid() == 0
        subprocess.run([*(["umount"] if as_root else ["fusermount3", "-u"]), point], check=True)
        process.communicate(timeout=LIMIT_S)
