"""Long reads go through a pipe: the same bytes, the record first, and nothing left behind."""

import errno
import os
import random
import sys

import pytest

from nightingale_hub.fuse_audit.pipe import WORTH_BYTES, Pipe
from nightingale_hub.fuse_audit.protocol import MAX_READ_BYTES, REPLY
from tests.audit_mount import AuditMount, audit_mount, covered, fail_of

SIZE = 3 * MAX_READ_BYTES + 777
# The first reads are not recorded.
FORGETFUL = """
import sys
from nightingale_hub.fuse_audit import __main__
from nightingale_hub.fuse_audit.spool import Spool
append, refused = Spool.append, []
def refuse_first(spool, event, **how):
    if b'"act":"read"' in event and len(refused) < 4:
        refused.append(1)
        raise OSError(28, "full")
    return append(spool, event, **how)
Spool.append = refuse_first
sys.exit(__main__.main(sys.argv[1:]))
"""


@pytest.fixture
def content(tmp_path) -> bytes:
    content = random.Random(3).randbytes(SIZE)
    (tmp_path / "file").write_bytes(content)
    return content


@pytest.fixture
def file(tmp_path, content):
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    yield fd
    os.close(fd)


@pytest.mark.parametrize("offset", [0, 1, 4095, 4096, MAX_READ_BYTES - 1, SIZE - WORTH_BYTES])
@pytest.mark.parametrize("size", [WORTH_BYTES, WORTH_BYTES + 5, 500_001])
def test_a_reply_is_its_header_and_the_file_s_bytes(tmp_path, file, content, offset, size):
    pipe = Pipe()
    pipe.begin(42)
    buffer = memoryview(bytearray(size))
    length = pipe.take(file, buffer, offset)
    wanted = content[offset : offset + size]
    assert (length, len(pipe), bytes(buffer)) == (len(wanted), len(wanted), bytes(size))
    sink = os.open(tmp_path / "sink", os.O_RDWR | os.O_CREAT, 0o600)
    while len(pipe):
        pipe.send(sink)
    head, data = (tmp_path / "sink").read_bytes()[:16], (tmp_path / "sink").read_bytes()[16:]
    os.close(sink)
    assert head == REPLY.pack(REPLY.size + len(wanted), 0, 42)
    assert data == wanted


@pytest.mark.parametrize(
    ("offset", "size"), [(0, 4096), (SIZE - 10, MAX_READ_BYTES), (SIZE, 1 << 20)]
)
def test_what_is_short_is_copied(file, content, offset, size):
    pipe = Pipe()
    buffer = memoryview(bytearray(size))
    length = pipe.take(file, buffer, offset)
    assert bytes(buffer[:length]) == content[offset : offset + size]
    assert len(pipe) == 0


def test_what_is_longer_than_the_pipe_or_cannot_be_spliced_is_copied(file, content):
    pipe = Pipe()
    huge = memoryview(bytearray(SIZE))
    assert pipe.take(file, huge, 0) == SIZE
    assert (bytes(huge), len(pipe)) == (content, 0)
    memory = os.memfd_create("appends")  # A file that says more than it gives.
    os.ftruncate(memory, 1 << 20)
    zeros = memoryview(bytearray(1 << 19))
    length = pipe.take(memory, zeros, 0)
    assert length == 1 << 19
    pipe.drain()
    os.close(memory)


def test_what_is_not_sent_is_gone_and_the_next_reply_is_whole(tmp_path, file, content):
    pipe = Pipe()
    buffer = memoryview(bytearray(WORTH_BYTES))
    for _ in range(3):
        pipe.take(file, buffer, 0)
        pipe.drain()
        assert len(pipe) == 0
    pipe.take(file, buffer, 100)
    closed = os.open(tmp_path / "file", os.O_RDONLY)
    with pytest.raises(OSError, match="Bad file"):
        pipe.send(closed)  # Not writable: the reader is gone.
    os.close(closed)
    pipe.begin(7)
    pipe.take(file, buffer, 200)
    sink = os.open(tmp_path / "sink", os.O_WRONLY | os.O_CREAT, 0o600)
    pipe.send(sink)
    os.close(sink)
    assert (tmp_path / "sink").read_bytes()[16:] == content[200 : 200 + WORTH_BYTES]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root writes over a full spool's limit")
def test_a_long_read_that_cannot_be_recorded_gives_no_byte_and_the_next_one_is_right(tmp_path):
    (tmp_path / "data").mkdir()
    content = random.Random(4).randbytes(SIZE)
    (tmp_path / "data" / "f").write_bytes(content)
    with audit_mount(tmp_path) as mount:
        fd = os.open(mount.top / "f", os.O_RDONLY)
        got = [os.pread(fd, MAX_READ_BYTES, at) for at in range(0, SIZE, MAX_READ_BYTES)]
        assert b"".join(got) == content
        os.close(fd)
        assert covered(mount.events(), "f") == {(0, SIZE)}
    (tmp_path / "spool").rename(tmp_path / "full")
    with audit_mount(tmp_path, spool_limit_bytes=2000, guard={"spool_full_percent": 100}) as mount:
        fd = os.open(mount.top / "f", os.O_RDONLY)
        codes = set()
        done: list[tuple[int, int]] = []
        for at in range(0, 10 * 4096, 4096):
            try:
                data = os.pread(fd, WORTH_BYTES, at)
            except OSError as error:
                codes.add(error.errno)
            else:
                assert data == content[at : at + WORTH_BYTES]
                done.append((at, len(data)))
        os.close(fd)
        logged = [(event["off"], event["len"]) for event in mount.events("read")]
    assert codes == {errno.EIO}
    assert logged == done


def test_what_could_not_be_recorded_is_in_no_reply_to_come(tmp_path):
    mount = AuditMount(tmp_path)
    for name in ("secret", "other"):
        (mount.data / name).write_bytes(random.Random(name).randbytes(SIZE))
    mount.start([sys.executable, "-c", FORGETFUL])
    try:
        secret = os.open(mount.top / "secret", os.O_RDONLY)
        # Four times, so that each worker may have had one.
        codes = [fail_of(os.pread, secret, MAX_READ_BYTES, 0) for _ in range(4)]
        assert codes == [errno.EIO] * 4
        other = os.open(mount.top / "other", os.O_RDONLY)
        wanted = (mount.data / "other").read_bytes()
        for _ in range(8):
            assert os.pread(other, WORTH_BYTES, 4096) == wanted[4096 : 4096 + WORTH_BYTES]
        os.close(secret)
        os.close(other)
        assert {event["path"] for event in mount.events("read")} == {"other"}
    finally:
        mount.clean()
