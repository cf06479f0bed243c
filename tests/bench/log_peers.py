"""The peers of the audit log's ingest: rsyslog and syslog-ng, each parsing JSON into a file.

Neither syncs, acknowledges, hashes or finds a repetition. Debian lets only one of them be
installed, so syslog-ng is unpacked into a folder.
"""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from nightingale_hub.ports import find_free_ports

LIMIT_S = 120.0
PACKAGES = ("syslog-ng-core", "libivykis0", "libnet1", "libpcre3", "libwrap0")
RSYSLOG = """
global(workDirectory="{place}")
module(load="imptcp")
module(load="mmjsonparse")
template(name="all" type="list") {{ property(name="$!all-json") constant(value="\\n") }}
input(type="imptcp" port="{port}" address="127.0.0.1")
action(type="mmjsonparse")
action(type="omfile" file="{out}" template="all")
"""
SYSLOG_NG = """
@version: 3.38
source s {{ network(ip("127.0.0.1") port({port}) transport("tcp") flags(no-parse)
    log-iw-size(100000)); }};
parser p {{ json-parser(); }};
destination d {{ file("{out}" template("$(format-json --scope dot-nv-pairs,nv-pairs)\\n")); }};
log {{ source(s); parser(p); destination(d); flags(flow-control); }};
"""


@contextmanager
def rsyslog(place: Path, core: int) -> Iterator[tuple[int, Path]]:
    """Yield the port and the file of an rsyslog on *core*."""
    port, out = find_free_ports(1)[0], place / "rsyslog.out"
    config = place / "rsyslog.conf"
    config.write_text(RSYSLOG.format(place=place, port=port, out=out))
    pid = place / "rsyslog.pid"
    with _running(["rsyslogd", "-n", "-f", str(config), "-i", str(pid)], core, {}, port):
        yield port, out


@contextmanager
def syslog_ng(place: Path, core: int) -> Iterator[tuple[int, Path]]:
    """Yield the port and the file of a syslog-ng on *core*; raises `OSError` without one."""
    root = unpack_syslog_ng(place)
    libraries = root / "usr/lib/x86_64-linux-gnu"
    modules = next(root.rglob("libjson-plugin.so")).parent
    port, out = find_free_ports(1)[0], place / "syslog-ng.out"
    config = place / "syslog-ng.conf"
    config.write_text(SYSLOG_NG.format(port=port, out=out))
    command = [
        str(root / "usr/sbin/syslog-ng"), "-F", "-f", str(config), "--no-caps",
        f"--module-path={modules}", f"--persist-file={place / 'ng.persist'}",
        f"--pidfile={place / 'ng.pid'}", f"--control={place / 'ng.ctl'}",
    ]  # fmt: skip
    paths = f"{libraries}:{root / 'lib/x86_64-linux-gnu'}:{modules.parent}"
    with _running(command, core, {"LD_LIBRARY_PATH": paths}, port):
        yield port, out


def unpack_syslog_ng(place: Path) -> Path:
    """Return a folder with syslog-ng in it; raises `OSError` when it cannot be had."""
    root, packages = place / "syslog-ng", place / "packages"
    packages.mkdir(exist_ok=True)
    # apt drops root's rights to a user that must be able to write here.
    packages.chmod(0o777)
    got = subprocess.run(
        ["apt-get", "download", "-qq", *PACKAGES], cwd=packages, capture_output=True, text=True
    )
    if got.returncode != 0:
        raise OSError(f"syslog-ng is not to be had: {got.stderr.strip()[-200:]}")
    for package in packages.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", str(package), str(root)], check=True)
    return root


def feed(port: int, out: Path, lines: Sequence[bytes], prefix: bytes) -> float:
    """Send *lines*, each behind *prefix*, and return the seconds until all are in *out*."""
    data = b"".join(prefix + line + b"\n" for line in lines)
    if out.exists():
        os.truncate(out, 0)  # both append
    have = at = 0
    start = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port)) as peer:
        peer.sendall(data)
    while have < len(lines):
        more, at = _count(out, at)
        have += more
        if time.perf_counter() - start > LIMIT_S:
            raise OSError(f"{out.name} has {have} of {len(lines)} events after {LIMIT_S} s")
        time.sleep(0.005)
    return time.perf_counter() - start


def _count(path: Path, at: int) -> tuple[int, int]:
    """Return how many lines end behind offset *at* of *path*, and where that was looked up to."""
    if not path.exists():
        return 0, at
    count = 0
    with path.open("rb") as file:
        file.seek(at)
        for block in iter(lambda: file.read(1 << 20), b""):
            count += block.count(b"\n")
            at += len(block)
    return count, at


@contextmanager
def _running(
    command: list[str], core: int, environment: dict[str, str], port: int
) -> Iterator[None]:
    if shutil.which(command[0]) is None:
        raise OSError(f"{command[0]} is not installed")
    process = subprocess.Popen(
        ["taskset", "-c", str(core), *command],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise
                time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(20)
