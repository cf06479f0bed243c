"""What a reader does with a dataset: each workload does it once and returns the seconds.

Every one of them counts what it did, so that the audit log can be held against it.
"""

import mmap
import multiprocessing
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

READ_BYTES = 1 << 20
PAGE_BYTES = 4096
_fork = multiprocessing.get_context("fork")


class Reader:
    """Reads below one directory; counts bytes in `done`, by path, and files that it opened."""

    def __init__(self, top: Path, seed: int) -> None:
        self.top = top
        self.done: Counter[str] = Counter()
        self.opens = 0
        self._rng = random.Random(seed)
        # Whole pages, as dd and cat use: a read that straddles one more page is two requests.
        self._buffer = mmap.mmap(-1, READ_BYTES)
        self._page = mmap.mmap(-1, PAGE_BYTES)

    def read_on(self, name: str, size: int) -> float:
        """Read the *size* bytes of file *name* from start to end, 1 MiB at a time."""
        with _opened(self.top / name) as fd:
            start = time.perf_counter()
            done = 0
            while count := os.readv(fd, [self._buffer]):
                done += count
            seconds = time.perf_counter() - start
        if done != size:
            raise OSError(f"{self.top / name} gave {done} of {size} bytes")
        self.done[name] += done
        self.opens += 1
        return seconds

    def read_at_random(self, name: str, size: int, count: int) -> float:
        """Read *count* pages of file *name*, anywhere in its *size* bytes."""
        pages = [self._rng.randrange(size // PAGE_BYTES) * PAGE_BYTES for _ in range(count)]
        with _opened(self.top / name) as fd:
            start = time.perf_counter()
            for page in pages:
                os.preadv(fd, [self._page], page)
            seconds = time.perf_counter() - start
        self.done[name] += count * PAGE_BYTES
        self.opens += 1
        return seconds

    def map(self, name: str, size: int) -> float:
        """Map file *name* and copy all of it out of the mapping."""
        self.opens += 1
        with _opened(self.top / name) as fd:
            start = time.perf_counter()
            with mmap.mmap(fd, size, mmap.MAP_PRIVATE, mmap.PROT_READ) as mapped:
                into = memoryview(self._buffer)
                with memoryview(mapped) as pages:
                    for at in range(0, size, READ_BYTES):
                        into[:] = pages[at : at + READ_BYTES]
            return time.perf_counter() - start

    def read_files(self, folder: str, total: int, count: int, readers: int) -> float:
        """Read *count* of the *total* files in *folder*, by as many processes as *readers*."""
        self.opens += count
        names = [f"{folder}/{self._rng.randrange(total)}" for _ in range(count)]
        if readers == 1:
            return self._read_all(names)
        begin = _fork.Barrier(readers + 1)
        shares = [names[number::readers] for number in range(readers)]
        processes = [_fork.Process(target=self._read_when, args=(begin, each)) for each in shares]
        for process in processes:
            process.start()
        begin.wait()
        start = time.perf_counter()
        for process in processes:
            process.join()
        seconds = time.perf_counter() - start
        if any(process.exitcode for process in processes):
            raise OSError(f"a reader of {self.top / folder} failed")
        return seconds

    def scan(self, folder: str, count: int) -> float:
        """List the *count* entries of *folder*."""
        start = time.perf_counter()
        with os.scandir(self.top / folder) as entries:
            found = sum(1 for _ in entries)
        seconds = time.perf_counter() - start
        if found != count:
            raise OSError(f"{self.top / folder} has {found} of {count} entries")
        return seconds

    def stat(self, folder: str, count: int) -> float:
        """Ask for the attributes of *count* files in *folder*, which were asked for before."""
        paths = [f"{self.top}/{folder}/{number}" for number in range(count)]
        start = time.perf_counter()
        for path in paths:
            os.stat(path)
        return time.perf_counter() - start

    def _read_when(self, begin: "multiprocessing.synchronize.Barrier", names: list[str]) -> None:
        begin.wait()
        self._read_all(names)

    def _read_all(self, names: list[str]) -> float:
        start = time.perf_counter()
        for name in names:
            fd = os.open(self.top / name, os.O_RDONLY)
            try:
                while os.readv(fd, [self._buffer]):
                    pass
            finally:
                os.close(fd)
        return time.perf_counter() - start


class _opened:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> int:
        self._fd = os.open(self._path, os.O_RDONLY)
        return self._fd

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def write_files(folder: Path, count: int, make: Callable[[int], bytes]) -> Iterator[Path]:
    """Write *count* files named by their number into *folder*, of what *make* gives for each."""
    folder.mkdir(parents=True)
    for number in range(count):
        path = folder / str(number)
        path.write_bytes(make(number))
        yield path
