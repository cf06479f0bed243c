"""The shipper against a service that fails in every way: nothing is lost, nothing doubled."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import zstandard

from nightingale_hub.errors import Conflict
from nightingale_hub.fuse_audit import spool as spool_module
from nightingale_hub.fuse_audit.backlog import Backlog
from nightingale_hub.fuse_audit.frames import list_files
from nightingale_hub.fuse_audit.spool import Spool
from tests.audit_mount import LIMIT_S, audit_mount, read_events

SHIP = [sys.executable, "-m", "nightingale_hub.fuse_audit.ship"]
Fault = Callable[["Service", BaseHTTPRequestHandler], bool]


class Service(ThreadingHTTPServer):
    """An audit service: it keeps each line once, and misbehaves as its faults say.

    A fault is called for one request each, and returns whether it has dealt with it.
    """

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.lines: list[bytes] = []
        self.arrived_s: list[float] = []
        self.batches: list[tuple[int, int]] = []
        self.tries = 0
        self.faults: list[Fault] = []
        self.largest = 1 << 30
        self.lock = threading.Lock()
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def store(self, first: int, lines: list[bytes]) -> dict[str, Any]:
        """Store what is new and return the reply, as the contract has it."""
        if first > len(self.lines) + 1:
            return {"error": {"code": "gap", "expect": len(self.lines) + 1}}
        for seq, line in enumerate(lines, first):
            if seq <= len(self.lines):
                if self.lines[seq - 1] != line:
                    return {"error": {"code": "conflict"}}
            else:
                self.lines.append(line)
                self.arrived_s.append(time.monotonic())
        self.batches.append((first, first + len(lines) - 1))
        return {"ack": len(self.lines)}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Service

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.path == "/base/api/streams/i-1:b-1/batches"
        assert self.headers["Authorization"] == "Bearer s3cret"
        assert self.headers["Content-Type"] == "application/x-ndjson"
        assert self.headers["Content-Encoding"] == "zstd"
        data = zstandard.ZstdDecompressor().decompress(body)
        assert data.endswith(b"\n")
        self.lines = data[:-1].split(b"\n")
        self.first = int(self.headers["X-First-Seq"])
        assert int(self.headers["X-Last-Seq"]) == self.first + len(self.lines) - 1
        with self.server.lock:
            self.server.tries += 1
            if self.server.faults and self.server.faults.pop(0)(self.server, self):
                return
            if len(self.lines) > self.server.largest:
                self.answer(413, {"error": {"code": "too_large"}})
                return
            reply = self.server.store(self.first, self.lines)
        self.answer(409 if "error" in reply else 200, reply)

    def answer(self, status: int, body: dict[str, Any], **headers: str) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_arguments: Any) -> None:
        pass


def dies_before_storing(service, handler) -> bool:
    handler.close_connection = True
    return True


def dies_after_storing(service, handler) -> bool:
    service.store(handler.first, handler.lines)
    handler.close_connection = True
    return True


def stores_half_and_dies(service, handler) -> bool:
    service.store(handler.first, handler.lines[: len(handler.lines) // 2])
    handler.close_connection = True
    return True


def is_busy(service, handler) -> bool:
    handler.answer(503, {"error": {"code": "unavailable"}}, Retry_After="1")
    return True


def says_nonsense(service, handler) -> bool:
    handler.answer(200, {"ok": "yes"})
    return True


def is_slow(service, handler) -> bool:
    time.sleep(0.5)
    return False


@pytest.fixture
def service():
    it = Service()
    yield it
    it.shutdown()
    it.server_close()


class Shipping:
    """One shipper process on `<place>/spool`, ended with the test."""

    def __init__(self, place: Path, port: int) -> None:
        self.settings = place / "ship.json"
        self.errors = place / "ship.log"
        values = {
            "spool": str(place / "spool"),
            "audit_url": f"http://127.0.0.1:{port}/base/api/",
            "stream_id": "i-1:b-1",
            "credential": "s3cret",
        }
        self.settings.write_text(json.dumps(values))
        self.start()

    def start(self) -> None:
        with self.errors.open("ab") as errors:
            self.process = subprocess.Popen([*SHIP, str(self.settings)], stderr=errors)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(LIMIT_S)

    def __enter__(self) -> "Shipping":
        return self

    def __exit__(self, *_arguments: object) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def spool(tmp_path, monkeypatch):
    monkeypatch.setattr(spool_module, "ROTATE_BYTES", 20_000)
    it = Spool(str(tmp_path / "spool"), 1 << 30)
    yield it
    it.close()


def write(spool: Spool, count: int) -> None:
    for number in range(count):
        spool.append(b'"n":%d}' % number, may_pass_limit=False)


def wait_until(is_so: Callable[[], bool], limit_s: float = LIMIT_S) -> None:
    ends = time.monotonic() + limit_s
    while not is_so():
        assert time.monotonic() < ends, "it did not come to be"
        time.sleep(0.02)


def has_more_than(service: Service, count: int) -> bool:
    return len(service.lines) > count


def check_all_there(service: Service, spool_directory: Path, count: int) -> None:
    assert [json.loads(line)["seq"] for line in service.lines] == list(range(1, count + 1))
    assert len(list_files(str(spool_directory))) == 1


def test_lines_arrive_whole_and_files_go_once_acknowledged(service, spool, tmp_path):
    write(spool, 3000)
    assert len(list_files(str(tmp_path / "spool"))) > 3
    with Shipping(tmp_path, service.server_port) as shipping:
        wait_until(lambda: len(service.lines) == 3000)
        assert shipping.stop() == 0
    check_all_there(service, tmp_path / "spool", 3000)


@pytest.mark.parametrize(
    "fault",
    [
        dies_before_storing,
        dies_after_storing,
        stores_half_and_dies,
        is_busy,
        says_nonsense,
        is_slow,
    ],
)
def test_a_fault_of_the_service_loses_and_doubles_nothing(service, spool, tmp_path, fault):
    service.faults = [fault, fault]
    write(spool, 2500)
    with Shipping(tmp_path, service.server_port) as shipping:
        wait_until(lambda: len(service.lines) == 2500)
        write(spool, 100)
        wait_until(lambda: len(service.lines) == 2600)
        assert shipping.stop() == 0
    check_all_there(service, tmp_path / "spool", 2600)


def test_a_busy_service_is_left_alone_as_long_as_it_says(service, spool, tmp_path):
    service.faults = [is_busy]
    write(spool, 1)
    with Shipping(tmp_path, service.server_port):
        wait_until(lambda: service.tries == 1)
        began = time.monotonic()
        wait_until(lambda: len(service.lines) == 1)
        assert time.monotonic() - began > 0.9


def test_a_service_that_is_not_there_yet_gets_everything_once_it_is(spool, tmp_path):
    first = Service()
    port = first.server_port
    first.shutdown()
    first.server_close()
    write(spool, 500)
    with Shipping(tmp_path, port) as shipping:
        wait_until(lambda: shipping.errors.read_text().count("next try") >= 2)
        service = Service(port)
        try:
            wait_until(lambda: len(service.lines) == 500)
            assert shipping.stop() == 0
            check_all_there(service, tmp_path / "spool", 500)
        finally:
            service.shutdown()
            service.server_close()


def test_a_service_that_lost_its_tail_is_sent_it_again(service, spool, tmp_path):
    write(spool, 100)
    with Shipping(tmp_path, service.server_port) as shipping:
        wait_until(lambda: len(service.lines) == 100)
        with service.lock:
            del service.lines[50:]
        write(spool, 10)
        wait_until(lambda: len(service.lines) == 110)
        assert shipping.stop() == 0
    check_all_there(service, tmp_path / "spool", 110)


def test_a_gap_that_the_spool_cannot_fill_stops_the_shipper(service, spool, tmp_path):
    write(spool, 3000)
    with Shipping(tmp_path, service.server_port) as shipping:
        wait_until(lambda: len(list_files(str(tmp_path / "spool"))) == 1)
        with service.lock:
            service.lines.clear()
        write(spool, 1)
        assert shipping.process.wait(LIMIT_S) == 1
        assert "line 1 is asked for, but the spool has it no more" in shipping.errors.read_text()


def test_a_conflict_stops_the_shipper_and_leaves_the_spool(service, spool, tmp_path):
    service.lines.append(b"something else")
    write(spool, 3)
    with Shipping(tmp_path, service.server_port) as shipping:
        assert shipping.process.wait(LIMIT_S) == 1
        assert "keep the spool and tell the operator" in shipping.errors.read_text()
    assert len(read_events(tmp_path / "spool")) == 3


def test_a_refused_credential_stops_the_shipper(service, spool, tmp_path):
    def refuses(_service, handler) -> bool:
        handler.answer(403, {"error": {"code": "not_allowed", "message": "expired"}})
        return True

    service.faults = [refuses]
    write(spool, 1)
    with Shipping(tmp_path, service.server_port) as shipping:
        assert shipping.process.wait(LIMIT_S) == 1
        assert "expired; give the shipper a valid credential" in shipping.errors.read_text()


def test_a_batch_that_is_too_large_is_sent_in_parts(service, spool, tmp_path):
    service.largest = 100
    write(spool, 1000)
    with Shipping(tmp_path, service.server_port) as shipping:
        wait_until(lambda: len(service.lines) == 1000)
        assert shipping.stop() == 0
    assert max(last - first + 1 for first, last in service.batches) <= 100


def test_kill_9_of_the_shipper_loses_and_doubles_nothing(service, spool, tmp_path):
    with Shipping(tmp_path, service.server_port) as shipping:
        for round_ in range(1, 6):
            write(spool, 700)
            already = (round_ - 1) * 700
            wait_until(partial(has_more_than, service, already))
            shipping.process.kill()
            shipping.process.wait()
            shipping.start()
        wait_until(lambda: len(service.lines) == 3500)
        assert shipping.stop() == 0
    check_all_there(service, tmp_path / "spool", 3500)


def test_a_drain_sends_what_is_left_and_says_that_it_is_done(service, spool, tmp_path):
    write(spool, 1)
    with Shipping(tmp_path, service.server_port) as shipping:
        wait_until(lambda: len(service.lines) == 1)
        write(spool, 2000)
        assert shipping.stop() == 0
    assert len(service.lines) == 2001


def test_a_drain_ends_after_10_s_and_says_that_it_is_not_done(service, spool, tmp_path):
    service.faults = [is_busy] * 1000
    write(spool, 5)
    with Shipping(tmp_path, service.server_port) as shipping:
        wait_until(lambda: service.tries > 0)
        began = time.monotonic()
        assert shipping.stop() == 1
        assert 9 < time.monotonic() - began < 12
        assert "not shipped: line 1 and on" in shipping.errors.read_text()
    assert len(read_events(tmp_path / "spool")) == 5


def test_a_read_is_shipped_within_a_second(service, tmp_path):
    with audit_mount(tmp_path) as mount, Shipping(tmp_path, service.server_port) as shipping:
        (mount.data / "f").write_bytes(b"x")
        delays = []
        for _ in range(5):
            before = len(service.lines)
            began = time.monotonic()
            (mount.top / "f").read_bytes()
            wait_until(partial(has_more_than, service, before + 3))
            delays.append(max(service.arrived_s[before:]) - began)
        assert sorted(delays)[2] < 1
        assert mount.stop() == 0
        assert shipping.stop() == 0
    assert service.lines == [json.dumps(e, separators=(",", ":")).encode() for e in mount.events()]


def test_what_is_given_out_is_on_disk_first(spool, tmp_path, monkeypatch):
    write(spool, 1)
    synced: list[int] = []
    really = os.fdatasync

    def note(fd: int) -> None:
        synced.append(fd)
        really(fd)

    monkeypatch.setattr(os, "fdatasync", note)
    before = len(synced)
    assert len(Backlog(str(tmp_path / "spool")).peek(10)) == 1
    assert len(synced) > before


def test_a_damaged_file_that_is_finished_is_never_skipped(spool, tmp_path):
    write(spool, 2000)
    first = list_files(str(tmp_path / "spool"))[0]
    file = tmp_path / "spool" / first.name
    data = bytearray(file.read_bytes())
    data[500] ^= 1
    file.write_bytes(data)
    backlog = Backlog(str(tmp_path / "spool"))
    backlog.acknowledge(len(backlog.peek(5000)))
    with pytest.raises(Conflict, match=f"{first.name} is damaged at byte"):
        backlog.peek(5000)


def test_a_wrong_setting_is_refused_by_name(tmp_path):
    (tmp_path / "ship.json").write_text(json.dumps({"spool": "/s", "audit_url": 7}))
    ended = subprocess.run(
        [*SHIP, str(tmp_path / "ship.json")], capture_output=True, text=True, timeout=LIMIT_S
    )
    assert ended.returncode == 9
    assert "audit_url must be a text" in ended.stderr
