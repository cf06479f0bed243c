"""The sweep and the lack of capacity: what a cloud says, held against the record."""

from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import insert

from nightingale_hub.clock import US_PER_S, now_us
from nightingale_hub.clouds import parse_clouds
from nightingale_hub.errors import ConfigError
from nightingale_hub.instances import get, list_progress
from nightingale_hub.notices import list_notices
from nightingale_hub.orphans import list_orphans
from nightingale_hub.services.billing.plans import publish_plan
from nightingale_hub.services.supervisor import capacity
from nightingale_hub.services.supervisor.capacity import (
    explain_end,
    find_lack,
    find_next_type,
    try_instead,
)
from nightingale_hub.services.supervisor.inventory import explain_reason
from nightingale_hub.services.supervisor.runs import Ended
from nightingale_hub.services.supervisor.sweep import Sweep
from nightingale_hub.services.supervisor.work import Work
from nightingale_hub.settings import NightingaleHub
from nightingale_hub.tables.billing import price
from nightingale_hub.tables.customers import customer
from nightingale_hub.tables.instances import instance
from nightingale_hub.terms import Plan
from tests.aws import IMAGE, REGION, running_moto
from tests.desk import ask
from tests.prices import add_prices
from tests.record import add_instance, list_shapes
from tests.serving import make_context


@pytest.fixture(scope="module")
def aws():
    with running_moto() as account:
        yield account


@pytest.fixture
def sweep(database, aws, tmp_path):
    for each in aws.list_instances():
        aws.ec2.terminate_instances(InstanceIds=[each["InstanceId"]])
    settings = NightingaleHub.from_dict(
        {
            **aws.settings,
            "state_dir": str(tmp_path / "state"),
            "orphan_after_s": 60.0,
            "cloud": "aws",
            "region": REGION,
        }
    )
    settings.ensure_state()
    clock = Clock()
    return Sweep(make_context("supervisor", database, settings), clock)


class Clock:
    def __init__(self):
        self.at_us = now_us()

    def __call__(self):
        return self.at_us


def run_instance(aws, instance_id, hub="nightingale", **more):
    tags = [
        {"Key": "nightingale:hub", "Value": hub},
        {"Key": "nightingale:instance", "Value": instance_id},
    ]
    made = aws.ec2.run_instances(
        ImageId=IMAGE,
        InstanceType="t3.micro",
        MinCount=1,
        MaxCount=1,
        TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
        **more,
    )
    return made["Instances"][0]["InstanceId"]


async def orphans(sweep, database):
    await sweep.step()
    with database.read() as conn:
        return {row.cloud_id: row.why for row in list_orphans(conn)}


async def test_what_no_record_stands_for_is_quarantined_then_removed(sweep, database, aws):
    stray = run_instance(aws, "i-ffffffffffff")
    other = run_instance(aws, "i-ffffffffffff", hub="another")
    assert await orphans(sweep, database) == {stray: "no instance of that name is on record"}
    sweep._clock.at_us += 59 * US_PER_S
    assert await orphans(sweep, database) != {}
    assert len(aws.list_instances()) == 2
    sweep._clock.at_us += 2 * US_PER_S
    assert await orphans(sweep, database) != {}  # asked for, and not seen to be gone yet
    assert await orphans(sweep, database) == {}
    assert [each["InstanceId"] for each in aws.list_instances()] == [other]


@pytest.mark.parametrize("actual", ["launching", "stopping", "resizing"])
async def test_what_terraform_is_at_work_on_is_left_alone(sweep, database, aws, actual):
    with database.write() as conn:
        add_instance(conn, "i-aaaaaaaaaaaa", cloud="aws", region=REGION, actual=actual)
    run_instance(aws, "i-aaaaaaaaaaaa")
    assert await orphans(sweep, database) == {}


async def test_what_is_over_in_the_record_and_runs_is_an_orphan(sweep, database, aws):
    with database.write() as conn:
        add_instance(conn, "i-aaaaaaaaaaaa", cloud="aws", region=REGION, actual="stopped")
    stray = run_instance(aws, "i-aaaaaaaaaaaa")
    assert await orphans(sweep, database) == {stray: "its instance is over"}


@pytest.mark.parametrize(
    ("market", "cause"), [({}, "crashed"), ({"MarketType": "spot"}, "preempted")]
)
async def test_one_that_the_cloud_took_back_is_stopped_and_its_owner_told(
    sweep, database, aws, market, cause
):
    with database.write() as conn:
        add_instance(
            conn,
            "i-aaaaaaaaaaaa",
            cloud="aws",
            region=REGION,
            actual="running",
            instance_type="t3.micro",
        )
    more = {"InstanceMarketOptions": market} if market else {}
    made = run_instance(aws, "i-aaaaaaaaaaaa", **more)
    await sweep.step()
    with database.read() as conn:
        assert conn.execute(instance.select()).one().wanted == "running"
    aws.ec2.stop_instances(InstanceIds=[made])
    await sweep.step()
    with database.read() as conn:
        row = conn.execute(instance.select()).one()
        [told] = list_notices(conn, row.owner)
    assert (row.wanted, row.cause) == ("stopped", cause)
    assert (told.subject, told.body) == (f"{row.id} {cause}", row.reason)
    assert "the home is kept, start again" in row.reason


async def test_another_type_than_the_recorded_is_recorded_from_then_on(sweep, database, aws):
    with database.write() as conn:
        add_instance(
            conn,
            "i-aaaaaaaaaaaa",
            cloud="aws",
            region=REGION,
            actual="running",
            instance_type="g5.xlarge",
            nano_usd_per_hour=7,
        )
    run_instance(aws, "i-aaaaaaaaaaaa")
    for _ in range(2):
        await sweep.step()
    with database.read() as conn:
        [*_, last] = list_shapes(conn, "i-aaaaaaaaaaaa")
        assert [each.cause for each in list_shapes(conn, "i-aaaaaaaaaaaa")].count("drift") == 1
    assert (last.instance_type, last.nano_usd_per_hour) == ("t3.micro", 7)


def pay_by_the_book(conn, *types):
    """Have alice pay by the book, which has a price for *types* and no others."""
    publish_plan(conn, Plan("book", effective_us=0, price="book"), 0)
    ask(conn, "customer.add", 1, id="org/lab", name="Lab", kind="private")
    ask(conn, "customer.plan", 1, customer="org/lab", plan="book")
    ask(conn, "member.add", 1, customer="org/lab", user="alice")
    for sku in ("disk.M", *(f"type.{name}" for name in types)):
        conn.execute(
            insert(price).values(
                cloud="aws", region=REGION, sku=sku, nano_per_hour=5, effective_us=0,
                published_us=0, source="test",
            )
        )  # fmt: skip


async def test_another_type_that_its_payer_has_no_price_for_is_told_and_not_charged(
    sweep, database, aws
):
    key = "i-aaaaaaaaaaaa"
    with database.write() as conn:
        pay_by_the_book(conn, "g5.xlarge")
        add_instance(conn, key, cloud="aws", region=REGION, instance_type="g5.xlarge")
    run_instance(aws, key)
    for _ in range(2):
        await sweep.step()
    with database.read() as conn:
        assert list_shapes(conn, key) == []
        [told] = [each.message for each in list_progress(conn, key)]
    assert "type.t3.micro has no price in USD" in told and "charged as g5.xlarge" in told


async def test_what_its_payer_has_no_price_for_is_not_tried_instead(sweep, database):
    key, lack = "i-aaaaaaaaaaaa", "InsufficientInstanceCapacity"
    settings = sweep._context.settings
    then = {"cloud": "aws", "region": "us-west-2"}
    instead = {"g5.xlarge": ["g5.2xlarge", "g4dn.xlarge"]}
    settings.clouds["aws"] |= {"zones": [], "instead": instead, "then": then}
    with database.write() as conn:
        pay_by_the_book(conn, "g5.xlarge", "g4dn.xlarge")
        for sku in ("type.t3.xlarge", "disk.M"):
            conn.execute(
                insert(price).values(
                    cloud="aws", region="us-west-2", sku=sku, nano_per_hour=5, effective_us=0,
                    published_us=0, source="test", currency="USD",
                )
            )  # fmt: skip
        where = {"cloud": "aws", "region": REGION, "actual": "launching", "ready_us": None}
        add_instance(conn, key, instance_type="g5.xlarge", **where)
    ended = Ended(0, "", 1, lack)
    for expected in (True, False):
        with database.read() as conn:
            row = get(conn, key)
        work = Work(sweep._context, row, sweep._clock)
        assert await try_instead(work, ended, lack) is expected
        if expected:
            # Its payer has since come to pay in another currency than the other region's book.
            with database.write() as conn:
                assert get(conn, key).instance_type == "g4dn.xlarge"
                conn.execute(customer.update().values(currency="EUR"))
    with database.read() as conn:
        lines = [each.message.partition("; ")[2] for each in list_progress(conn, key)]
    assert lines[:2] == [
        "not trying g5.2xlarge: type.g5.2xlarge has no price in USD there",
        "trying g4dn.xlarge",
    ]
    assert lines[2].startswith("not trying aws us-west-2: type.")


async def test_a_cloud_that_does_not_answer_removes_nothing_and_stops_nothing(
    sweep, database, aws, monkeypatch
):
    with database.write() as conn:
        add_instance(
            conn,
            "i-aaaaaaaaaaaa",
            cloud="aws",
            region=REGION,
            actual="running",
            instance_type="t3.micro",
        )
    environment = sweep._context.settings.clouds["aws"]["environment"]
    monkeypatch.setitem(environment, "AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    await sweep.step()
    with database.read() as conn:
        assert conn.execute(instance.select()).one().wanted == "running"


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("Client.InstanceInitiatedShutdown", "as after a kernel panic"),
        ("Server.InternalError", "the cloud's machine under it failed"),
        ("Server.NeverHeardOf", "(Server.NeverHeardOf)"),
        ("", "(no reason given)"),
    ],
)
def test_why_it_ended_is_told_as_far_as_the_cloud_tells(reason, said):
    assert said in explain_reason(reason)


AWS_ERROR = (
    "creating EC2 Instance: operation error EC2: RunInstances, https response error StatusCode: "
    "500, api error {}: We currently do not have sufficient g5.xlarge capacity"
)


@pytest.mark.parametrize(
    ("cloud", "error", "lack"),
    [
        (
            "aws",
            AWS_ERROR.format("InsufficientInstanceCapacity"),
            "InsufficientInstanceCapacity",
        ),
        ("aws", AWS_ERROR.format("UnauthorizedOperation"), None),
        ("aws", "the tag x-InsufficientInstanceCapacity is malformed", None),
        ("azure", 'Code="SkuNotAvailable" Message="not available"', "SkuNotAvailable"),
        ("gcp", "ZONE_RESOURCE_POOL_EXHAUSTED: no a2", "ZONE_RESOURCE_POOL_EXHAUSTED"),
        ("local", "InsufficientInstanceCapacity", None),
    ],
)
def test_a_lack_of_capacity_is_told_from_other_failures(cloud, error, lack):
    assert find_lack(cloud, error) == lack


def test_the_policy_is_followed_to_its_end():
    instead = {"g5.2xlarge": ["g5.xlarge", "g4dn.xlarge"]}
    assert find_next_type(instead, "g5.2xlarge") == "g5.xlarge"
    assert find_next_type(instead, "g5.xlarge") == "g4dn.xlarge"
    assert find_next_type(instead, "g4dn.xlarge") is None
    assert find_next_type(instead, "p5.48xlarge") is None
    row: Any = SimpleNamespace(cloud="aws", region=REGION, instance_type="g4dn.xlarge")
    tried: list[Any] = [SimpleNamespace(zone="us-east-1a", instance_type="g5.xlarge")]
    said = explain_end(row, "Unsupported", AWS_ERROR.format("Unsupported"), tried)
    assert said.startswith(
        "aws us-east-1a, us-east-1 has no g5.xlarge, g4dn.xlarge left (Unsupported)"
    )
    assert "try again later" in said
    assert explain_end(row, None, "no such image", []) == "The launch failed: no such image"


async def test_a_change_of_cloud_that_fails_again_and_again_ends_the_launch(
    sweep, database, monkeypatch
):
    context = sweep._context
    context.settings.clouds["aws"]["then"] = {"cloud": "local", "region": "here"}
    context.settings.launch_attempts = 4
    left = Ended(0, "", 1, "the cloud is down")

    async def fail(*_):
        return left

    monkeypatch.setattr(capacity, "bring_to_end", fail)
    with database.write() as conn:
        add_prices(conn)
        values = {"actual": "launching", "ready_us": None, "instance_type": "t3.micro"}
        key = add_instance(conn, cloud="aws", region=REGION, gpu="none", **values)
    went_on: list[bool] = []
    while not went_on or (went_on[-1] and len(went_on) < 10):
        with database.read() as conn:
            work = Work(context, get(conn, key), sweep._clock)
        went_on.append(await capacity.try_instead(work, left, "VcpuLimitExceeded"))
    assert went_on == [True, True, True, False]
    with database.read() as conn:
        *_, last = list_progress(conn, key)
    assert last.message.endswith(
        "what was to be tried instead failed too: not all of it could be removed: the cloud is down"
    )


GOOD = {"zones": ["us-east-1a"], "image": "ami-0abc", "hub_cidrs": ["10.0.0.0/24"]}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"moon": GOOD}, "no cloud that is known"),
        ({"aws": {}}, "needs hub_cidrs, image, zones"),
        ({"aws": {**GOOD, "zone": "a"}}, "has 'zone'"),
        ({"aws": {**GOOD, "zones": []}}, "'zones'"),
        ({"aws": {**GOOD, "zones": ["a; rm -rf /"]}}, "'zones'"),
        ({"aws": {**GOOD, "image": '${file("/etc/passwd")}'}}, "'image'"),
        ({"aws": {**GOOD, "image": "ami-../x"}}, "'image'"),
        ({"aws": {**GOOD, "hub_cidrs": ["0.0.0.0/0"]}}, "'hub_cidrs'"),
        ({"aws": {**GOOD, "hub_cidrs": "10.0.0.0/8"}}, "'hub_cidrs'"),
        ({"aws": {**GOOD, "cidr": "x"}}, "'cidr'"),
        ({"aws": {**GOOD, "environment": {"A": 1}}}, "'environment'"),
        ({"aws": {**GOOD, "spot": "yes"}}, "'spot'"),
        ({"aws": {**GOOD, "instead": {"g5.xlarge": ["; rm -rf"]}}}, "'instead'"),
        ({"aws": {**GOOD, "identity": {"account": "123456789012"}}}, "'identity'"),
        ({"aws": {**GOOD, "identity": "123456789012"}}, "'identity'"),
        ({"aws": {**GOOD, "datasets": {"ecg": {"snapshot": "backup-0a"}}}}, "'datasets'"),
        ({"aws": {**GOOD, "datasets": {"../ecg": {"snapshot": "b", "disk_gib": 1}}}}, "'datasets'"),
        ({"aws": {**GOOD, "then": {"cloud": "moon", "region": "x"}}}, "'then'"),
        ({"aws": {**GOOD, "then": {"cloud": "local", "region": "../x"}}}, "'then'"),
    ],
)
def test_a_wrong_setting_of_a_cloud_is_named(wrong, said):
    with pytest.raises(ConfigError, match=r"c\.NightingaleHub\.clouds") as refused:
        parse_clouds(wrong)
    assert said in str(refused.value)


def test_a_right_setting_of_a_cloud_is_taken():
    assert parse_clouds({"aws": GOOD}) == {"aws": GOOD}
