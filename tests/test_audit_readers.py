"""Real programs read through the mount: each byte that they got stands in the log."""

import filecmp
import os
import shutil
import subprocess
import sys

import pytest
from pydicom.data import get_testdata_file

from tests.audit_mount import audit_mount, covered, is_covered
from tests.audit_reader import traced

MIB = 1 << 20
PYTHON = [sys.executable, "-B", "-c"]
MEMMAP = "import numpy,sys; print(int(numpy.memmap(sys.argv[1],mode='r',dtype='u1').sum()))"
PICK = (
    "import numpy,sys; m=numpy.memmap(sys.argv[1],mode='r',dtype='u1');"
    "print([int(m[n]) for n in (0,300000,1048575)])"
)
SENDFILE = "import shutil,sys; shutil.copyfile(sys.argv[1],sys.argv[2])"
DICOM = "import pydicom,sys; print(pydicom.dcmread(sys.argv[1]).pixel_array.shape)"
RANDOM = (
    "import os,random,sys; f=os.open(sys.argv[1],0); random.seed(7);"
    "[os.pread(f,4096,random.randrange(1<<20)) for _ in range(200)]"
)
PREADV = "import os,sys; f=os.open(sys.argv[1],0); os.preadv(f,[bytearray(999)]*3,5000)"
THREADS = (
    "import os,sys\nfrom concurrent.futures import ThreadPoolExecutor as P\n"
    "f=os.open(sys.argv[1],0)\n"
    "with P(4) as p: list(p.map(lambda n: os.pread(f,10000,n*10000),range(100)))\n"
)
FORK = (
    "import os,sys\nf=os.open(sys.argv[1],0)\npid=os.fork()\n"
    "os.pread(f,5000,0 if pid else 500000)\npid and os.waitpid(pid,0)\n"
)
FILE = "{top}/scan"

# A command, and how many times it opens a file of the dataset.
READERS = {
    "cat": (["cat", FILE], 1),
    "dd": (["dd", f"if={FILE}", "of=/dev/null", "bs=7777", "skip=3", "count=20"], 1),
    "dd past the cache": (["dd", f"if={FILE}", "of=/dev/null", "bs=64k", "iflag=direct"], 1),
    "head": (["head", "-c", "1000", FILE], 1),
    "tail": (["tail", "-c", "1000", FILE], 1),
    "tar": (["tar", "-cf", "{out}", "-C", "{top}", "scan", "study"], 6),
    "cp": (["cp", FILE, "{out}"], 1),
    "cp of a tree": (["cp", "-r", "{top}/study", "{out}"], 5),
    "cp of a sparse file": (["cp", "--sparse=always", "{top}/sparse", "{out}"], 1),
    "sha256sum": (["sha256sum", FILE, "{top}/study/1.dcm"], 2),
    "grep": (["grep", "-rc", "DICM", "{top}/study"], 5),
    "numpy.memmap": ([*PYTHON, MEMMAP, FILE], 1),
    "sendfile": ([*PYTHON, SENDFILE, FILE, "{out}"], 1),
    "pydicom": ([*PYTHON, DICOM, "{top}/study/0.dcm"], 1),
    "random reads": ([*PYTHON, RANDOM, FILE], 1),
    "preadv": ([*PYTHON, PREADV, FILE], 1),
    "threads on one descriptor": ([*PYTHON, THREADS, FILE], 1),
    "a child on its parent's descriptor": ([*PYTHON, FORK, FILE], 1),
    "a shell's input": (["sh", "-c", f"cat < {FILE}"], 1),
}
# libfuse of Debian 12 knows no shared mapping past the page cache: such a reader is refused.
SHARED_MAPPINGS = ("numpy.memmap",)


@pytest.fixture(params=["kernel", "libfuse", "fusepy"])
def mount(request, tmp_path):
    with audit_mount(tmp_path, adapter=request.param) as served:
        (served.data / "scan").write_bytes(os.urandom(MIB))
        (served.data / "study").mkdir()
        for number in range(5):
            source = get_testdata_file("CT_small.dcm")
            shutil.copyfile(str(source), served.data / "study" / f"{number}.dcm")
        with (served.data / "sparse").open("wb") as file:
            file.truncate(4 * MIB)
            file.seek(2 * MIB)
            file.write(b"island" * 1000)
        yield served


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
@pytest.mark.parametrize("reader", READERS)
def test_every_byte_that_a_reader_got_is_in_the_log(mount, tmp_path, reader, request):
    if reader in SHARED_MAPPINGS and "kernel" not in request.node.name:
        pytest.skip("libfuse 3.14 cannot allow shared mappings with direct I/O")
    out = tmp_path / "out"
    parts, opens = READERS[reader]
    command = [part.format(top=mount.top, out=out) for part in parts]
    trace = traced(command, mount.top, tmp_path / "trace")
    assert mount.stop() == 0
    events = mount.events()
    assert trace.asked, "strace saw no read"
    for path, asked in trace.asked.items():
        size = (mount.data / path).stat().st_size
        within = {(start, min(end, size)) for start, end in asked}
        assert is_covered(within, covered(events, path)), path
    opened = [event["path"] for event in events if event["act"] == "open"]
    assert sorted(opened) == sorted(path for path in trace.opens if (mount.data / path).is_file())
    assert len(opened) == opens
    assert len([event for event in events if event["act"] == "release"]) == opens


def test_a_reader_that_asks_for_ranges_is_recorded_range_by_range(mount):
    ranges = [(n * 70_001 % (MIB - 5000), 1 + n * 37 % 5000) for n in range(100)]
    fd = os.open(mount.top / "scan", os.O_RDONLY)
    try:
        for offset, length in ranges:
            assert len(os.pread(fd, length, offset)) == length
    finally:
        os.close(fd)
    recorded = [(event["off"], event["len"]) for event in mount.events("read")]
    assert recorded == ranges


def test_a_second_read_of_the_same_bytes_is_a_second_record(mount):
    with open(mount.top / "scan", "rb", buffering=0) as file:
        for _ in range(3):
            file.seek(0)
            file.read(4096)
    assert [(e["off"], e["len"]) for e in mount.events("read")] == [(0, 4096)] * 3


def test_a_mapping_is_recorded_where_it_is_touched_and_not_all_over(tmp_path):
    with audit_mount(tmp_path) as mount:
        (mount.data / "scan").write_bytes(os.urandom(64 * MIB))
        script = PICK.replace("1048575", str(60 * MIB)).replace("300000", str(30 * MIB))
        subprocess.run([*PYTHON, script, str(mount.top / "scan")], check=True)
        logged = covered(mount.events(), "scan")
        assert is_covered({(n, n + 1) for n in (0, 30 * MIB, 60 * MIB)}, logged)
        assert sum(end - start for start, end in logged) < 2 * MIB


def test_what_is_copied_is_what_is_there(mount, tmp_path):
    subprocess.run(["cp", "-r", mount.top, tmp_path / "copy"], check=True)
    same, different, failed = filecmp.cmpfiles(
        mount.data,
        tmp_path / "copy",
        ["scan", "sparse", *(f"study/{number}.dcm" for number in range(5))],
        shallow=False,
    )
    assert (len(same), different, failed) == (7, [], [])
