"""The shipper against a service that fails in every way: nothing is lost, nothing doubled."""

import json
import os
import subprocess
import time
from collections.abc import Callable
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from nightingale_hub.errors import Conflict
from nightingale_hub.fuse_audit import spool as spool_module
from nightingale_hub.fuse_audit.backlog import Backlog
from nightingale_hub.fuse_audit.frames import list_files
from nightingale_hub.fuse_audit.spool import Spool
from tests.audit_mount import LIMIT_S, audit_mount, read_events
from tests.audit_service import (
    SHIP,
    Service,
    Shipping,
    dies_after_storing,
    dies_before_storing,
    is_busy,
    is_slow,
    says_nonsense,
    stores_half_and_dies,
)

Fault = Callable[["Service", BaseHTTPRequestHandler], bool]


@pytest.fixture
def service():
    it = Service()
    yield it
    it.shutdown()
    it.server_close()


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
