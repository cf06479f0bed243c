"""An export loses nothing: not when it dies, not when its receiver does, not what is refused."""

import asyncio
import json
from dataclasses import replace

import pytest
from sqlalchemy import select, update

from nightingale_hub.errors import ConfigError, Unavailable
from nightingale_hub.exports import parse_exports
from nightingale_hub.findings import Severity, raise_finding
from nightingale_hub.lease import StaleLease, take_lease
from nightingale_hub.services.audit import service
from nightingale_hub.services.audit.export.exporter import COMMITTED_AFTER_US, Exporter
from nightingale_hub.services.audit.export.target import Refusal
from nightingale_hub.services.audit.reader import EventReader
from nightingale_hub.services.audit.service import make_segments
from nightingale_hub.settings import NightingaleHub
from nightingale_hub.tables.exports import audit_export
from nightingale_hub.tables.log import finding
from tests.audit import AT_US, add_instance, audit_service, make_lines
from tests.serving import make_context


@pytest.fixture
async def stored(database, tmp_path):
    """The state directory of an audit service that has taken 30 lines of two streams."""
    senders = [add_instance(database, owner) for owner in ("alice", "bob")]
    async with audit_service(database, tmp_path / "state", without_loops) as audit:
        for first in (1, 6, 11):
            for sender in senders:
                lines = make_lines(first, first + 4, owner=sender.owner)
                await audit.send(sender, first, lines)
    return tmp_path / "state"


def without_loops(context):
    made = service.make(context)
    return replace(made, loops=[each for each in made.loops if each.name == "writer"])


class Sink:
    """A target that keeps what it takes."""

    def __init__(self):
        self.keys = []
        self.is_down = False
        self.refuses = set()

    async def send(self, records):
        if self.is_down:
            raise Unavailable("it is down")
        self.keys += [each.key for each in records]
        return [Refusal(each, "no such field") for each in records if each.key in self.refuses]

    async def close(self):
        pass


class TargetThatDiesAfterDelivery(Sink):
    async def send(self, records):
        await super().send(records)
        raise KeyboardInterrupt


def make_exporter(database, state, target, at_us=AT_US):
    context = make_context("audit", database, NightingaleHub(state_dir=str(state)))
    reader = EventReader(context, make_segments(context))
    return Exporter(context, reader, "siem", target, clock=lambda: at_us)


def load_row(database):
    with database.read() as conn:
        return conn.execute(select(audit_export)).one_or_none()


def raise_some(database, key="k", at_us=AT_US):
    with database.write() as conn:
        return raise_finding(
            conn, key=key, kind="R3", severity=Severity.HIGH, subject="user:alice",
            evidence={"reason": "why"}, at_us=at_us,
        )  # fmt: skip


async def test_each_event_and_finding_is_delivered_once_and_never_again(database, stored):
    sink = Sink()
    number = raise_some(database)
    await make_exporter(database, stored, sink).step()
    assert len(sink.keys) == len(set(sink.keys)) == 31
    assert f"finding:{number}" in sink.keys
    await make_exporter(database, stored, sink).step()
    assert len(sink.keys) == 31
    row = load_row(database)
    assert (row.sent, row.refused, row.error, row.delivered_us) == (31, 0, "", AT_US)


async def test_what_died_between_delivery_and_record_is_delivered_again(database, stored):
    dying, sink = TargetThatDiesAfterDelivery(), Sink()
    with pytest.raises(KeyboardInterrupt):
        await make_exporter(database, stored, dying).step()
    assert load_row(database) is None
    await make_exporter(database, stored, sink).step()
    assert sorted(sink.keys) == sorted(dying.keys) and len(sink.keys) == 30


async def test_a_receiver_that_is_down_is_told_and_loses_nothing(database, stored, monkeypatch):
    monkeypatch.setattr("nightingale_hub.services.audit.export.exporter.LEAST_PAUSE_S", 0.0)
    sink = Sink()
    sink.is_down = True
    await make_exporter(database, stored, sink).step()
    row = load_row(database)
    assert (row.error, row.error_us, row.batch_number) == ("it is down", AT_US, 0)
    later = AT_US + 16 * 60 * 1_000_000
    await make_exporter(database, stored, sink, later).step()
    with database.read() as conn:
        [found] = conn.execute(select(finding)).all()
    assert (found.kind, found.subject) == ("A1", "export:siem")
    sink.is_down = False
    await make_exporter(database, stored, sink, later).step()
    assert len(sink.keys) == 31
    assert (load_row(database).error, load_row(database).error_us) == ("", None)


async def test_what_is_refused_for_ever_is_kept_told_and_passed(database, stored):
    sink = Sink()
    all_of_them = Sink()
    await make_exporter(database, stored, all_of_them).step()
    with database.write() as conn:
        conn.execute(update(audit_export).values(batch_number=0, sent=0))
    sink.refuses = {all_of_them.keys[3]}
    await make_exporter(database, stored, sink).step()
    row = load_row(database)
    assert (row.sent, row.refused) == (30, 1)  # the finding about it went out as well
    [kept] = (stored / "audit" / "refused-siem.ndjson").read_text().splitlines()
    assert json.loads(kept)["document"]["event"]["id"] == all_of_them.keys[3]
    assert (stored / "audit" / "refused-siem.ndjson").stat().st_mode & 0o777 == 0o600


async def test_a_finding_that_commits_late_is_not_passed_over(database, stored):
    first, second = raise_some(database, "a"), raise_some(database, "b")
    with database.write() as conn:
        hidden = conn.execute(select(finding).where(finding.c.id == first)).one()
        conn.execute(finding.delete().where(finding.c.id == first))
    sink = Sink()
    await make_exporter(database, stored, sink).step()
    assert f"finding:{second}" not in sink.keys
    with database.write() as conn:
        conn.execute(finding.insert().values(**hidden._mapping))
    await make_exporter(database, stored, sink).step()
    assert sink.keys[-2:] == [f"finding:{first}", f"finding:{second}"]


async def test_a_number_that_never_comes_holds_no_finding_up_for_ever(database, stored):
    first, second = raise_some(database, "a"), raise_some(database, "b")
    with database.write() as conn:
        conn.execute(finding.delete().where(finding.c.id == first))
    sink = Sink()
    await make_exporter(database, stored, sink, AT_US + COMMITTED_AFTER_US + 1).step()
    assert sink.keys[-1] == f"finding:{second}"


async def test_an_exporter_of_a_service_that_was_taken_over_moves_no_cursor(database, stored):
    exporter = make_exporter(database, stored, Sink())
    database.transact(lambda conn: take_lease(conn, "audit", "newer", AT_US))
    with pytest.raises(StaleLease):
        await exporter.step()
    assert load_row(database) is None


async def test_a_running_service_exports_what_the_settings_name(database, tmp_path):
    path = tmp_path / "audit.ndjson"
    exports = {"file": {"kind": "lines", "path": str(path)}}
    sender = add_instance(database)
    async with audit_service(database, tmp_path / "state", exports=exports) as audit:
        await audit.send(sender, 1, make_lines(1, 3))
        async with asyncio.timeout(20):
            while not path.exists() or len(path.read_text().splitlines()) < 3:
                await asyncio.sleep(0.05)
    said = [json.loads(line)["event"]["id"] for line in path.read_text().splitlines()]
    events = [each for each in said if "finding" not in each]
    assert events == [f"{sender.stream_id}:{seq}" for seq in (1, 2, 3)]


@pytest.mark.parametrize(
    ("exports", "named"),
    [
        ({"Siem": {"kind": "lines", "path": "/a"}}, "a target's name"),
        ({"siem": "lines"}, "must have a kind"),
        ({"siem": {"kind": "splunk"}}, "must have a kind"),
        ({"siem": {"kind": "otlp"}}, "lacks url"),
        ({"siem": {"kind": "lines", "path": "/a", "url": "https://x"}}, "has url"),
        ({"siem": {"kind": "lines", "path": "audit.ndjson"}}, "absolute"),
        ({"siem": {"kind": "otlp", "url": "http://collector:4318"}}, "https"),
        ({"siem": {"kind": "otlp", "url": "https://a:b@collector"}}, "password"),
        ({"siem": {"kind": "otlp", "url": "https://c", "token_file": "/none"}}, "no file"),
        ({"siem": {"kind": "syslog", "host": "h", "port": 70000}}, "port"),
        ({"siem": {"kind": "syslog", "host": "", "port": 6514}}, "host"),
        ({"siem": {"kind": "datadog", "url": "https://d"}}, "api_key_file"),
    ],
)
def test_a_wrong_setting_is_named(exports, named):
    with pytest.raises(ConfigError, match=named):
        parse_exports(exports)
    with pytest.raises(ConfigError, match=r"c\.NightingaleHub\.exports"):
        NightingaleHub(exports=exports)
