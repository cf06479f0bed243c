"""What clouds and agents prove of an instance's use reaches the meter and the bill by itself."""

import json
from datetime import datetime

import pytest
from botocore.stub import Stubber
from sqlalchemy import select, update
from sqlalchemy.exc import DatabaseError

from nightingale_hub.clock import US_PER_S, now_us
from nightingale_hub.errors import Unavailable
from nightingale_hub.homes import want_gone
from nightingale_hub.instances import get
from nightingale_hub.orphans import list_orphans
from nightingale_hub.services.billing.biller import Biller
from nightingale_hub.services.billing.explain import explain_line
from nightingale_hub.services.billing.plans import publish_plan
from nightingale_hub.services.metering.meter import Meter
from nightingale_hub.services.metering.segments import list_metered
from nightingale_hub.services.metering.service import make
from nightingale_hub.services.supervisor import sweep as sweeping
from nightingale_hub.services.supervisor.inventory import AwsInventory, Found
from nightingale_hub.services.supervisor.stop import find_end_us
from nightingale_hub.services.supervisor.sweep import Sweep
from nightingale_hub.settings import NightingaleHub
from nightingale_hub.tables.billing import line_item
from nightingale_hub.tables.instances import instance
from nightingale_hub.tables.metering import fault, holding, provider_stop
from nightingale_hub.terms import Plan
from nightingale_hub.usage import begin_holding
from tests.desk import ask
from tests.fleet import running_fleet, supervising
from tests.prices import add_prices
from tests.record import BOOT, S, add_instance, list_segments
from tests.serving import make_context, serving
from tests.usage import parse_time

HOUR = 3600 * S


@pytest.fixture
async def fleet(database, tmp_path):
    async with running_fleet(database, tmp_path / "state") as fleet:
        yield fleet


def list_holdings(database):
    columns = (holding.c.instance_id, holding.c.sku, holding.c.from_us, holding.c.until_us)
    with database.read() as conn:
        return [tuple(row) for row in conn.execute(select(*columns).order_by(holding.c.from_us))]


async def bill(database, tmp_path, at_us):
    """Have the real meter look, then the real biller."""
    await Meter(make_context("metering", database), lambda: at_us).step()
    prices = tmp_path / "prices.csv"
    prices.write_text("cloud,region,sku,currency,per_hour,effective,source\n")
    await Biller(make_context("billing", database), prices, lambda: at_us).step()


async def test_a_home_is_metered_from_its_making_through_two_instances_to_its_end(
    fleet, database, tmp_path
):
    with database.write() as conn:
        add_prices(conn)
        publish_plan(conn, Plan("stored", effective_us=1, bills_storage=True), 0)
        ask(conn, "customer.add", 2, id="org/lab", name="Lab", kind="private")
        ask(conn, "customer.plan", 2, customer="org/lab", plan="stored")
        ask(conn, "member.add", 2, customer="org/lab", user="alice")
    async with supervising(fleet):
        first = fleet.ask()
        await fleet.wait_state(first, "running")
        [(held_by, sku, began_us, ended_us)] = list_holdings(database)
        row = fleet.get(first)
        assert (held_by, sku, ended_us) == (first, "disk.S", None)
        assert row.allocated_us < began_us < row.ready_us
        fleet.stop(first)
        await fleet.wait_state(first, "stopped")
        assert list_holdings(database) == [(first, "disk.S", began_us, None)], "it is kept"
        second = fleet.ask()
        await fleet.wait_state(second, "running")
        old, new = list_holdings(database)
        assert old == (first, "disk.S", began_us, new[2]) and new[0] == second
        fleet.stop(second)
        await fleet.wait_state(second, "stopped")
        with database.write() as conn:
            want_gone(conn, second, now_us(), "alice asked")
        await fleet.wait_state(second, "gone")
    *_, (_, _, _, gone_us) = list_holdings(database)
    assert gone_us is not None
    at_us = now_us()
    await bill(database, tmp_path, at_us)
    with database.read() as conn:
        lines = conn.execute(select(line_item).where(line_item.c.kind == "storage")).all()
        stops = [get(conn, key).stop_accepted_us for key in (first, second)]
    # While an instance runs its rate pays for the disk; from its stop on the disk is charged.
    assert [(each.start_us, each.end_us) for each in lines] == [
        (stops[0], new[2]),
        (stops[1], gone_us),
    ]
    assert json.loads(lines[0].pieces)[0][1] == 500_000


async def test_a_home_that_a_second_server_uses_stays_metered_once(fleet, database):
    async with supervising(fleet):
        one, two = fleet.ask(), fleet.ask(server="two")
        for key in (one, two):
            await fleet.wait_state(key, "running")
        *_, (holder, _, _, _) = list_holdings(database)
        other = one if holder == two else two
        fleet.stop(holder)
        row = await fleet.wait_state(holder, "stopped")
        *_, before, last = list_holdings(database)
    assert (before[0], before[3]) == (holder, row.stop_accepted_us)
    assert (last[0], last[2:]) == (other, (row.stop_accepted_us, None))


async def test_a_failure_that_an_agent_proves_is_credited_to_the_microsecond(database, tmp_path):
    """Told while it goes on, told twice, then told to be over; credited once, after it ended."""
    with database.write() as conn:
        add_prices(conn)
        start_us = now_us() - HOUR
        key = add_instance(
            conn, created_us=start_us, allocated_us=start_us, ready_us=start_us,
            nano_usd_per_hour=3_600_000_000,
        )  # fmt: skip
    token = f"credential of {key}"
    async with serving("metering", database, make) as (client, service):
        await service.loops[0].step()

        async def beat(uptime_us, *failures):
            body = {"instance_id": key, "boot_id": BOOT, "uptime_us": uptime_us, "faults": []}
            answer = await client.post("beat", token, json={**body, "failures": failures})
            assert answer.status_code == 200, answer.text

        await beat(3100 * S, ["records", 3040 * S, None])
        await beat(3130 * S, ["records", 3040 * S, None])
        with database.read() as conn:
            [told] = conn.execute(select(fault)).all()
        assert (told.proof, told.is_open, told.end_us - told.start_us) == ("agent", True, 90 * S)
        for _ in range(2):
            await beat(3160 * S, ["records", 3040 * S, 3150 * S])
        late = ["mount", 5, 2]
        for wrong in ([["server", 1, 2]], [late], [["mount", 1.5, None]], [["mount"]], 7):
            body = {"instance_id": key, "boot_id": BOOT, "uptime_us": 1, "faults": []}
            answer = await client.post("beat", token, json={**body, "failures": wrong})
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_input")
    with database.read() as conn:
        [told] = conn.execute(select(fault)).all()
    assert (told.is_open, told.end_us - told.start_us) == (False, 110 * S)
    for edit in ({"end_us": told.end_us + 1}, {"is_open": True}, {"cause": "mount"}):
        with pytest.raises(DatabaseError), database.write() as conn:
            conn.execute(update(fault).values(edit))
    later_us = now_us() + 100 * S  # what took two minutes was told in one instant
    with database.write() as conn:
        conn.execute(
            update(instance).values(
                stop_accepted_us=later_us, gone_us=later_us, actual="stopped", wanted="stopped"
            )
        )
    await bill(database, tmp_path, later_us + S)
    with database.read() as conn:
        [credit] = conn.execute(select(line_item).where(line_item.c.kind == "credit")).all()
    assert (credit.seconds, credit.amount_micro, credit.cause) == (110, -110_000, "records")


REFUSED = {"": 0}


class CloudThatSays(AwsInventory):
    """A cloud whose word a test gives."""

    def __init__(self, *found, impaired=None):
        self.found = list(found)
        self.impaired = impaired or {}

    def list_instances(self, _hub_id, _instance_id=None):
        return self.found

    def list_impaired(self):
        if self.impaired is REFUSED:
            raise Unavailable("AWS does not say what exists: UnauthorizedOperation")
        return self.impaired


@pytest.fixture
def sweep(database, tmp_path, monkeypatch):
    """Returns a sweep over a cloud that says what it is given."""

    def make_sweep(at_us, *found, impaired=None):
        inventory = CloudThatSays(*found, impaired=impaired)
        monkeypatch.setattr(sweeping, "get_inventory", lambda *_: inventory)
        given = {"hub_cidrs": ["10.0.0.0/24"], "image": "ami-1", "zones": ["us-east-1a"]}
        values = {"clouds": {"aws": given}, "cloud": "aws", "region": "us-east-1"}
        settings = NightingaleHub.from_dict({**values, "state_dir": str(tmp_path / "state")})
        settings.ensure_state()
        return Sweep(make_context("supervisor", database, settings), lambda: at_us)

    return make_sweep


def say(key, state="running", **more):
    base = Found("i-0abc", key, state, "t3.micro", "us-east-1a", "", False, "")
    return Found(**{**vars(base), **more})


async def test_a_preempted_instance_is_billed_to_the_clouds_own_time(database, tmp_path, sweep):
    with database.write() as conn:
        key = add_instance(conn, cloud="aws", region="us-east-1", instance_type="t3.micro")
    ended_us, seen_us = 5_000 * S, 5_061 * S + 7
    gone = say(key, "terminated", is_spot=True, stopped_us=ended_us)
    await sweep(seen_us, gone).step()
    with database.read() as conn:
        assert conn.execute(select(provider_stop)).one() == (key, BOOT, ended_us)
        row = get(conn, key)
    assert (row.cause, row.stop_accepted_us) == ("preempted", seen_us)
    await Meter(make_context("metering", database), lambda: seen_us).step()
    with database.read() as conn:
        assert list_segments(conn, key) == [(BOOT, 100 * S, ended_us, "crashed")]


async def test_a_host_that_fails_by_the_clouds_word_is_a_fault_until_it_says_no_more(
    database, sweep
):
    with database.write() as conn:
        key = add_instance(conn, cloud="aws", region="us-east-1", instance_type="t3.micro")
    failing = {"i-0abc": 200 * S}
    for at_us, impaired in ((300 * S, failing), (360 * S, failing), (390 * S, REFUSED)):
        await sweep(at_us, say(key), impaired=impaired).step()
    with database.read() as conn:
        assert conn.execute(select(fault.c.is_open)).scalar(), "silence is no word that it is over"
    await sweep(420 * S, say(key)).step()
    with database.read() as conn:
        [told] = conn.execute(select(fault)).all()
    assert (told.instance_id, told.cause, told.proof) == (key, "host", "provider")
    assert (told.start_us, told.end_us, told.is_open) == (200 * S, 360 * S, False)


def test_the_words_of_ec2_are_read_as_its_times():
    inventory = AwsInventory("us-east-1", {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y"})
    since = datetime.fromisoformat("2026-11-25T01:02:03+00:00")
    told = {
        "InstanceId": "i-1",
        "State": {"Name": "stopped"},
        "InstanceType": "t3.micro",
        "Placement": {"AvailabilityZone": "us-east-1a"},
        "LaunchTime": since,
        "StateTransitionReason": "User initiated (2026-11-25 04:05:06 GMT)",
    }
    impaired = {
        "InstanceId": "i-1",
        "SystemStatus": {
            "Status": "impaired",
            "Details": [{"Name": "reachability", "Status": "failed", "ImpairedSince": since}],
        },
    }
    with Stubber(inventory._client) as ec2:
        ec2.add_response("describe_instances", {"Reservations": [{"Instances": [told]}]})
        ec2.add_response("describe_instance_status", {"InstanceStatuses": [impaired]})
        [found] = inventory.list_instances("nightingale")
        assert inventory.list_impaired() == {"i-1": int(since.timestamp()) * US_PER_S}
    assert found.stopped_us == int(since.timestamp() + 3 * 3600 + 3 * 60 + 3) * US_PER_S


def test_what_exists_is_told_without_the_right_to_ask_for_hosts_that_fail():
    inventory = AwsInventory("us-east-1", {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y"})
    with Stubber(inventory._client) as ec2:
        ec2.add_response("describe_instances", {"Reservations": []})
        ec2.add_client_error("describe_instance_status", "UnauthorizedOperation")
        assert inventory.list_instances("nightingale", "i-1") == []
        with pytest.raises(Unavailable, match="UnauthorizedOperation"):
            inventory.list_impaired()


async def test_an_orphan_is_found_where_the_cloud_does_not_tell_whose_host_fails(database, sweep):
    await sweep(300 * S, say("i-ffffffffffff"), impaired=REFUSED).step()
    with database.read() as conn:
        assert [row.cloud_id for row in list_orphans(conn)] == ["i-0abc"]


async def test_a_disk_that_is_kept_is_billed_each_month(database, tmp_path):
    november, december = parse_time("2026-11-10 00:00:00"), parse_time("2026-12-20 00:00:00")
    with database.write() as conn:
        add_prices(conn)
        publish_plan(conn, Plan("stored", effective_us=1, bills_storage=True), 0)
        ask(conn, "customer.add", 2, id="org/lab", name="Lab", kind="private")
        ask(conn, "customer.plan", 2, customer="org/lab", plan="stored")
        ask(conn, "member.add", 2, customer="org/lab", user="alice")
        key = add_instance(
            conn, created_us=november, allocated_us=november, ready_us=november, actual="stopped",
            stop_accepted_us=november + HOUR, gone_us=november + HOUR, wanted="stopped",
        )  # fmt: skip
        begin_holding(conn, key, "disk", "vol-1", "disk.S", november)
    await bill(database, tmp_path, december)
    with database.read() as conn:
        [line] = conn.execute(select(line_item).where(line_item.c.kind == "storage")).all()
        assert explain_line(conn, line.id)["is_the_same_again"]
        assert list_metered(conn, december) == [], "what is kept costs the meter nothing"
    assert line.start_us == november + HOUR and line.end_us == parse_time("2026-12-01 00:00:00")
    assert line.seconds == 20 * 86_400 + 23 * 3600


@pytest.mark.parametrize(
    ("told_us", "ended_us"),
    [
        (9 * US_PER_S, 9 * US_PER_S),  # it had ended before anybody asked
        (10 * US_PER_S, 10 * US_PER_S + 400_000),  # of that second the cloud leaves out the rest
        (11 * US_PER_S, 11 * US_PER_S),
    ],
)
def test_an_end_that_the_cloud_tells_stands_but_for_its_whole_seconds(told_us, ended_us):
    assert find_end_us(told_us, 10 * US_PER_S + 400_000) == ended_us
