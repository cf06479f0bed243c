"""Large datasets: many entries, deep trees, sparse files of 100 GiB, data that proves itself."""

import errno
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.audit_mount import LIMIT_S, audit_mount, covered, fail_of, is_covered

GIB = 1 << 30
ENTRIES = 100_000
DEPTH = 1200  # Deeper than Python's stack, and longer than a path may be.


@pytest.fixture
def served(tmp_path):
    with audit_mount(tmp_path) as it:
        yield it


def test_a_directory_of_100_000_entries_is_listed_whole_twice_and_each_is_found(served):
    many = served.data / "many"
    many.mkdir()
    for number in range(ENTRIES):
        os.close(os.open(many / f"{number:06d}.dcm", os.O_CREAT | os.O_WRONLY))
    names = [f"{number:06d}.dcm" for number in range(ENTRIES)]
    assert sorted(os.listdir(served.top / "many")) == names
    assert sorted(os.listdir(served.top / "many")) == names
    for name in (names[0], names[ENTRIES // 2], names[-1]):
        assert (served.top / "many" / name).stat().st_size == 0
    assert not (served.top / "many" / "100000.dcm").exists()


def test_a_tree_deeper_than_a_path_is_long_is_read_to_its_end_and_recorded(served):
    name = "level"
    at = os.open(served.data, os.O_RDONLY)
    for _ in range(DEPTH):
        os.mkdir(name, dir_fd=at)
        below = os.open(name, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    file = os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=at)
    os.write(file, b"deep")
    os.close(file)
    os.close(at)
    at = os.open(served.top, os.O_RDONLY)
    for _ in range(DEPTH):
        below = os.open(name, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    # Another daemon has no directory open, and finds its way down again.
    served.kill_daemon()
    file = os.open("f", os.O_RDONLY, dir_fd=at)
    assert os.read(file, 10) == b"deep"
    os.close(file)
    os.close(at)
    assert served.stop() == 0
    assert {event["path"] for event in served.events()} == {f"{name}/" * DEPTH + "f"}
    subprocess.run(["rm", "-rf", served.data / name], check=True)


def test_a_sparse_file_of_100_gib_is_read_anywhere_and_its_holes_are_found(served):
    size = 100 * GIB
    with (served.data / "volume").open("wb") as file:
        file.truncate(size)
        for at in (0, 50 * GIB, size - 5):
            file.seek(at)
            file.write(b"image")
    found, source = (served.top / "volume").stat(), (served.data / "volume").stat()
    assert (found.st_size, found.st_blocks) == (size, source.st_blocks)
    fd = os.open(served.top / "volume", os.O_RDONLY)
    for at in (0, 50 * GIB, size - 5):
        assert os.pread(fd, 5, at) == b"image"
    assert os.pread(fd, 1 << 20, 20 * GIB) == bytes(1 << 20)
    assert os.pread(fd, 100, size) == b""
    assert os.lseek(fd, GIB, os.SEEK_DATA) == 50 * GIB
    assert os.lseek(fd, 0, os.SEEK_HOLE) < GIB
    os.close(fd)
    wanted = {(0, 5), (50 * GIB, 50 * GIB + 5), (size - 5, size), (20 * GIB, 20 * GIB + (1 << 20))}
    assert is_covered(wanted, covered(served.events(), "volume"))
    assert fail_of(os.truncate, served.top / "volume", 0) == errno.EROFS


@pytest.mark.skipif(shutil.which("fio") is None, reason="it is Debian's fio that proves the data")
@pytest.mark.parametrize("engine", ["psync", "mmap", "io_uring"])
def test_fio_finds_each_block_as_it_was_written_and_the_log_covers_them(served, engine):
    size = 8 << 20
    job = ["fio", "--name=proof", f"--size={size}", "--verify=crc32c", "--output-format=json"]
    blocks = ["--bs=64k", "--randseed=7"]
    source, file = served.data / "f", served.top / "f"
    written = [*job, *blocks, f"--filename={source}", "--rw=write", "--do_verify=0"]
    subprocess.run(written, check=True, stdout=subprocess.DEVNULL, cwd=served.data.parent)
    read = [*job, *blocks, f"--filename={file}", "--rw=randread", f"--ioengine={engine}"]
    read += ["--readonly", "--iodepth=4"]
    done = run_fio(read, served.data.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    # It may say something before its report.
    (told,) = json.loads(done.stdout[done.stdout.index("{") :])["jobs"]
    assert (told["error"], told["read"]["total_ios"]) == (0, size // (64 << 10))
    assert is_covered({(0, size)}, covered(served.events(), "f"))
    # Against the test itself: one byte that is not as it was written is seen.
    with source.open("r+b") as damaged:
        damaged.seek(5 << 20)
        damaged.write(b"!")
    assert run_fio(read, served.data.parent).returncode != 0


def run_fio(command: list[str], place: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command, capture_output=True, text=True, timeout=LIMIT_S, cwd=place, check=False
    )
