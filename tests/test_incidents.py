"""Findings become incidents; incidents climb, with a reason; what was allowed leads to nothing."""

import asyncio
import json
from dataclasses import replace

import pytest
from sqlalchemy import func, insert, select

from nightingale_hub.datasets import Dataset, ensure_dataset, grant, list_granted
from nightingale_hub.errors import BadInput, NotAllowed
from nightingale_hub.services.audit import service, watch
from nightingale_hub.services.audit.catalogue import HubCatalogue
from nightingale_hub.services.audit.detect.finding import Finding
from nightingale_hub.services.audit.reader import EventReader
from nightingale_hub.services.audit.respond.bypass import grant_bypass
from nightingale_hub.services.audit.respond.incidents import MERGE_US, RUNGS, take_in
from nightingale_hub.services.audit.service import make_segments
from nightingale_hub.services.audit.watch import Watch, load_kept
from nightingale_hub.settings import NightingaleHub
from nightingale_hub.tables.decoys import decoy
from nightingale_hub.tables.incidents import incident, suspension
from nightingale_hub.tables.instances import progress
from nightingale_hub.tables.log import finding, log_leaf
from nightingale_hub.tables.supervision import request
from tests.audit import AT_US, add_instance, audit_service, make_line
from tests.serving import make_context

HOUR = 3_600_000_000
DAY = 24 * HOUR
REASON = "computes features of every image once, study 12"


def found(rule="R3", severity="high", owner="alice", at_us=AT_US, dataset="ct"):
    return Finding(rule, 1, severity, owner, dataset, at_us, at_us, f"why {rule}")


def take(database, *findings, at_us):
    with database.write() as conn:
        for each in findings:
            take_in(conn, each, at_us)


def list_rows(database, table):
    with database.read() as conn:
        return conn.execute(select(table).order_by(table.c.id)).all()


def test_findings_that_come_close_together_are_one_incident(database):
    add_instance(database)
    for minutes, rule in ((0, "R2"), (60, "R3"), (120, "R1")):
        at_us = AT_US + minutes * 60_000_000
        take(database, found(rule, "medium", at_us=at_us), at_us=at_us)
    take(database, found(owner="bob"), at_us=AT_US)
    late = AT_US + 120 * 60_000_000 + MERGE_US + 1
    take(database, found("R5", at_us=late), at_us=late)
    rows = list_rows(database, incident)
    assert [(r.owner, r.severity) for r in rows] == [
        ("alice", "medium"),
        ("bob", "high"),
        ("alice", "high"),
    ]


def test_the_same_finding_again_changes_nothing(database):
    add_instance(database)
    for _ in range(3):
        take(database, found(), at_us=AT_US)
    assert len(list_rows(database, incident)) == len(list_rows(database, finding)) == 1


def test_an_incident_each_day_climbs_rung_by_rung_and_the_person_reads_why(database):
    sender = add_instance(database)
    for day in range(5):
        take(database, found(at_us=AT_US + day * DAY), at_us=AT_US + day * DAY)
    assert [row.rung for row in list_rows(database, incident)] == [
        "notify", "suspend", "stop", "disable", "disable",
    ]  # fmt: skip
    [closed] = list_rows(database, suspension)
    assert closed.until_us - closed.since_us == 10 * 60_000_000
    said = [row.message for row in list_rows(database, progress)]
    assert len(said) == 2 and all("why R3" in message for message in said)
    asked = list_rows(database, request)
    assert [(r.kind, r.instance_id, r.actor) for r in asked] == [
        ("stop", sender.instance_id, "audit"),
        ("quarantine", sender.instance_id, "audit"),
        ("quarantine", sender.instance_id, "audit"),
    ]
    assert all("why R3" in row.reason for row in asked)
    kinds = [row.kind for row in list_rows(database, log_leaf)]
    assert kinds.count("incident") == 5 and kinds.count("finding") == 5


def test_a_honeyfile_that_is_read_closes_the_datasets_at_once(database):
    add_instance(database)
    with database.write() as conn:
        ensure_dataset(conn, Dataset("ct", "CT", "", "", "/data/ct"))
        grant(conn, "ct", "alice", AT_US)
    take(database, found("H1", "high"), at_us=AT_US)
    take(database, found("H1", "critical", at_us=AT_US + 1), at_us=AT_US + 1)
    assert [row.rung for row in list_rows(database, incident)] == ["suspend"]
    with database.read() as conn:
        assert list_granted(conn, "alice", AT_US + HOUR) == []
        assert [row.name for row in list_granted(conn, "alice", AT_US + 25 * HOUR)] == ["ct"]
        assert [row.name for row in list_granted(conn, "alice", AT_US - 1)] == ["ct"]


def test_an_incident_never_comes_down_and_old_ones_are_forgotten(database):
    add_instance(database)
    take(database, found("H1", "critical"), at_us=AT_US)
    take(database, found("R2", "low", at_us=AT_US + 60), at_us=AT_US + 60)
    [row] = list_rows(database, incident)
    assert (row.rung, row.severity) == ("suspend", "critical")
    later = AT_US + 31 * DAY
    take(database, found(at_us=later), at_us=later)
    assert [row.rung for row in list_rows(database, incident)] == ["suspend", "notify"]


def test_what_was_allowed_is_recorded_and_leads_to_nothing(database):
    add_instance(database)
    with database.write() as conn:
        grant_bypass(conn, "alice", ["R3", "R1"], 8, "dora", REASON, AT_US)
    for rule, owner in (("R3", "alice"), ("R3", "bob"), ("R5", "carol")):
        take(database, found(rule, owner=owner, at_us=AT_US + HOUR), at_us=AT_US + HOUR)
    rungs = {row.owner: row.rung for row in list_rows(database, incident)}
    assert rungs == {"alice": "note", "bob": "notify", "carol": "notify"}
    assert len(list_rows(database, finding)) == 3
    take(database, found("H1", "critical", at_us=AT_US + HOUR), at_us=AT_US + HOUR)
    assert list_rows(database, incident)[0].rung == "suspend"
    [leaf] = [row for row in list_rows(database, log_leaf) if row.kind == "bypass"]
    assert json.loads(leaf.payload)["reason"] == REASON


def test_a_bypass_excuses_neither_what_was_begun_before_nor_what_is_after(database):
    add_instance(database)
    with database.write() as conn:
        grant_bypass(conn, "alice", ["R3"], 1, "dora", REASON, AT_US)
    take(database, found(at_us=AT_US - HOUR), at_us=AT_US + 60)
    assert list_rows(database, incident)[0].rung == "notify"
    later = AT_US + 5 * HOUR
    take(database, found(at_us=later), at_us=later)
    assert list_rows(database, incident)[1].rung == "suspend"


@pytest.mark.parametrize(
    ("changes", "error", "named"),
    [
        ({"granted_by": "alice"}, NotAllowed, "themself"),
        ({"rules": ["H1"]}, BadInput, "H1"),
        ({"rules": ["A1"]}, BadInput, "A1"),
        ({"rules": []}, BadInput, "names rules"),
        ({"hours": 49}, BadInput, "48"),
        ({"hours": 0}, BadInput, "48"),
        ({"reason": "because" + " " * 40}, BadInput, "say what"),
        ({"owner": ""}, BadInput, "whom"),
    ],
)
def test_a_bypass_that_is_not_to_be_allowed_is_refused(database, changes, error, named):
    values = {"owner": "alice", "rules": ["R3"], "hours": 8, "granted_by": "dora"}
    with pytest.raises(error, match=named), database.write() as conn:
        grant_bypass(conn, **{**values, "reason": REASON, "at_us": AT_US, **changes})
    with database.read() as conn:
        assert conn.execute(select(func.count()).select_from(log_leaf)).scalar_one() == 0


def test_rungs_are_in_order():
    assert RUNGS.index("note") < RUNGS.index("notify") < RUNGS.index("disable")


async def test_a_honeyfile_that_is_read_is_a_finding_within_seconds(database, tmp_path):
    sender = add_instance(database)
    plant(database)
    async with audit_service(database, tmp_path / "state") as audit:
        lines = [make_line(1, act="open", ds="ct", path="a/7.dcm", len=0)]
        await audit.send(sender, 1, [*lines, make_line(2, ds="ct", path="a/7.dcm")])
        async with asyncio.timeout(20):
            while len(list_rows(database, finding)) < 2:
                await asyncio.sleep(0.05)
    told = [row for row in list_rows(database, finding) if row.kind == "H1"]
    assert [row.severity for row in told] == ["high", "critical"]
    assert [row.rung for row in list_rows(database, incident)] == ["suspend"]


def plant(database):
    with database.write() as conn:
        ensure_dataset(conn, Dataset("ct", "CT", "", "", "/nowhere/ct"))
        conn.execute(
            insert(decoy).values(
                dataset="ct", owner="alice", path="a/7.dcm", sibling="a/6.dcm", size=9, mtime_ns=0,
                seed="s", is_probe=False, planted_us=AT_US,
            )
        )  # fmt: skip


class WatchThatDiesBeforeItKeeps(Watch):
    async def _keep(self):
        raise KeyboardInterrupt


async def test_a_watch_that_dies_finds_the_same_again_and_nothing_twice(database, tmp_path):
    sender = add_instance(database)
    plant(database)

    def without_watch(context):
        made = service.make(context)
        return replace(made, loops=[each for each in made.loops if each.name == "writer"])

    async with audit_service(database, tmp_path / "state", without_watch) as audit:
        await audit.send(sender, 1, [make_line(1, ds="ct", path="a/7.dcm")])
    settings = NightingaleHub(state_dir=str(tmp_path / "state"))
    context = make_context("audit", database, settings)

    def make(kind):
        reader = EventReader(context, make_segments(context))
        return kind(context, reader, HubCatalogue(context), clock=lambda: AT_US)

    with pytest.raises(KeyboardInterrupt):
        await make(WatchThatDiesBeforeItKeeps).step()
    first = list_rows(database, finding)
    await make(Watch).step()
    assert list_rows(database, finding) == first != []
    kept = load_kept(settings.state_path / "audit" / "detectors.state")
    assert kept.batch_number == 1 and kept.state.readers["ct"]["alice"].files


def test_a_state_that_is_damaged_or_of_other_rules_is_begun_anew(tmp_path, monkeypatch):
    path = tmp_path / "detectors.state"
    watch.save_kept(path, watch.Kept(batch_number=7))
    assert load_kept(path).batch_number == 7
    monkeypatch.setattr(watch, "CURRENT", 2)
    assert load_kept(path).batch_number == 0
    path.write_bytes(b"damaged")
    assert load_kept(path).batch_number == 0
