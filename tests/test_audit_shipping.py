"""What the audit mount writes reaches the audit service, line by line, over its outages."""

import asyncio
import json
import signal
import subprocess
import sys
from contextlib import contextmanager

from nightingale_hub.fuse_audit import record
from nightingale_hub.fuse_audit.spool import Spool
from nightingale_hub.ports import find_free_ports
from tests.audit import AT_US, add_instance, audit_service, list_stored

NAMES = [
    b"CT/a.dcm",
    b"\xff\xfe.dcm",
    b"back\\slash",
    "\u202egnp".encode(),
    b'"quo\nted"',
    b"\x1b[",
]


def append(spool: Spool, name: bytes) -> None:
    spool.append(
        record.format_event(
            AT_US,
            record.READ,
            record.encode_text("alice"),
            1000,
            record.encode_process(7, 1, b"/usr/bin/cat"),
            record.encode_file("dicom", name, 3, 2**64 - 1),
            length=4096,
            flags=0o100000,
            policy=b"strict",
        ),
        may_pass_limit=False,
    )


@contextmanager
def running_shipper(settings, path):
    path.write_text(json.dumps(settings))
    command = [sys.executable, "-m", "nightingale_hub.fuse_audit.ship", str(path)]
    process = subprocess.Popen(command)
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


async def test_each_line_of_a_spool_arrives_once_over_a_restart_of_the_service(database, tmp_path):
    sender = add_instance(database)
    spool = Spool(str(tmp_path / "spool"), 1 << 20)
    port = find_free_ports(1)[0]
    settings = {
        "spool": str(tmp_path / "spool"),
        "audit_url": f"http://127.0.0.1:{port}/services/audit/api/",
        "stream_id": sender.stream_id,
        "credential": sender.credential,
    }
    with running_shipper(settings, tmp_path / "ship.json") as shipper:
        for _ in range(2):
            for name in NAMES:
                append(spool, name)
            async with audit_service(database, tmp_path / "state", port=port) as audit:
                await audit.wait_indexed(sender, spool.next_seq - 1)
        for name in NAMES:
            append(spool, name)
        async with audit_service(database, tmp_path / "state", port=port) as audit:
            shipper.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(shipper.wait, 20) == 0
            await audit.wait_indexed(sender, spool.next_seq - 1)
    spool.close()
    paths = [record.format_name(name) for name in NAMES * 3]
    assert list_stored(database, sender) == list(enumerate(paths, 1))
