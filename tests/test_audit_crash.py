"""An audit service that is killed at any point loses and doubles nothing that it acknowledged."""

import asyncio
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select

from nightingale_hub.ports import find_free_ports
from nightingale_hub.services.audit.rebuild import replay
from nightingale_hub.services.audit.segments import list_files
from nightingale_hub.settings import NightingaleHub
from nightingale_hub.tables.audit import audit_batch
from tests.audit import (
    AuditClient,
    add_instance,
    audit_service,
    list_sent,
    list_stored,
    make_lines,
)
from tests.audit_death import POINTS

ROOT = Path(__file__).parent.parent


@pytest.fixture
def start(database, tmp_path):
    """Starts the service's own process as the hub does, and returns its URL."""
    started = []

    def run(*command: str) -> str:
        state = NightingaleHub(state_dir=str(tmp_path / "state"), db_url=database.url)
        url = f"http://127.0.0.1:{find_free_ports(1)[0]}"
        environment = state.to_environment() | {
            "PATH": "/usr/bin:/bin",
            "JUPYTERHUB_SERVICE_URL": url,
            "JUPYTERHUB_API_TOKEN": "none",
        }
        started.append(
            subprocess.Popen([sys.executable, "-m", *command], cwd=ROOT, env=environment)
        )
        return f"{url}/services/audit/"

    yield run
    for process in started:
        process.kill()
        process.wait(10)


async def send(url: str, tmp_path: Path, *batch) -> httpx.Response:
    """Send once the service listens."""
    async with httpx.AsyncClient(base_url=url, timeout=20) as http, asyncio.timeout(30):
        client = AuditClient(http, tmp_path / "state" / "audit" / "segments")
        while True:
            try:
                return await client.send(*batch)
            except httpx.ConnectError:
                await asyncio.sleep(0.1)


@pytest.mark.parametrize("point", POINTS)
async def test_killed_anywhere_it_stores_each_line_once(database, tmp_path, start, point):
    sender = add_instance(database)
    url = start("tests.audit_death", point)
    with pytest.raises(httpx.TransportError):
        await send(url, tmp_path, sender, 1, make_lines(1, 10))
    async with audit_service(database, tmp_path / "state") as audit:
        for first, last in ((1, 10), (11, 20)):
            response = await audit.send(sender, first, make_lines(first, last))
            assert response.json()["ack"] >= last
        await audit.wait_indexed(sender, 20)
    assert list_stored(database, sender) == list_sent(20)
    # The files alone tell the same, whatever the dead process left in them.
    with database.read() as conn:
        rows = conn.execute(select(audit_batch).order_by(audit_batch.c.first_seq)).all()
    told = replay(tmp_path / "state" / "audit" / "segments")[sender.stream_id]
    assert [(header.first_seq, place.file, place.position) for header, place in told] == [
        (row.first_seq, row.file, row.position) for row in rows
    ]
    if point == "after_append":
        assert rows[0].file != list_files(tmp_path / "state" / "audit" / "segments")[0]


async def test_the_service_runs_as_the_hub_starts_it(database, tmp_path, start):
    sender = add_instance(database)
    url = start("nightingale_hub.services.audit")
    response = await send(url, tmp_path, sender, 1, make_lines(1, 3))
    assert response.json() == {"ack": 3}
    segments = tmp_path / "state" / "audit" / "segments"
    modes = [segments.parent, segments, *segments.iterdir()]
    assert [oct(path.stat().st_mode & 0o777) for path in modes] == ["0o700", "0o700", "0o600"]
