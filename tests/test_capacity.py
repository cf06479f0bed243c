"""A launch that a cloud refuses goes on by policy: another zone, another type, another cloud."""

import pytest
import pytest_asyncio
from sqlalchemy import select

from nightingale_hub.database import Database
from nightingale_hub.tables.supervision import attempt
from nightingale_hub.terraform.keeping import end_keeper, find_keeper
from tests.aws import REGION, BootOfMoto, needs_mirror, running_moto
from tests.fleet import running_fleet, supervising
from tests.prices import add_prices
from tests.refusing_aws import without_capacity

pytestmark = [needs_mirror, pytest.mark.timeout(600)]
LONG_S = 300
BIG = {"cloud": "aws", "region": REGION, "instance_type": "g5.2xlarge"}
A, B = "us-east-1a", "us-east-1b"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory):
    """A fleet on an account that refuses what a test says; one keeper for all tests."""
    folder = tmp_path_factory.mktemp("fleet")
    database = Database(f"sqlite:///{folder / 'test.sqlite'}")
    database.upgrade()
    database.transact(add_prices)
    with running_moto() as moto, without_capacity(moto) as aws:
        settings = {**aws.settings, "db_url": database.url}
        settings["clouds"]["aws"]["then"] = {"cloud": "local", "region": "here"}
        async with running_fleet(database, folder / "state", **settings) as fleet:
            boot = BootOfMoto(fleet, aws)
            try:
                yield fleet, aws, boot
            finally:
                boot.close()
        keeper = find_keeper(fleet.settings)
        if keeper is not None:
            end_keeper(keeper)
    database.dispose()


def list_tried(fleet, key):
    with fleet.database.read() as conn:
        rows = conn.execute(select(attempt).where(attempt.c.instance_id == key))
        return [(row.instance_type, row.zone) for row in rows]


@pytest.mark.asyncio(loop_scope="module")
async def test_the_next_zone_then_the_next_type_and_each_try_is_told(world):
    fleet, aws, boot = world
    aws.refused = {("g5.2xlarge", "*")}
    async with supervising(fleet):
        key = fleet.ask(**BIG)
        await boot.boot(key, LONG_S)
        row = await fleet.wait_state(key, "running", LONG_S)
        [made] = aws.list_instances()
        assert (made["InstanceType"], made["Placement"]["AvailabilityZone"]) == ("g5.xlarge", B)
        assert (row.instance_type, row.nano_usd_per_hour) == ("g5.xlarge", 30_000_000)
        assert list_tried(fleet, key) == [("g5.2xlarge", A), ("g5.2xlarge", B)]
        lines = [line for line in fleet.list_lines(key) if "left (Insuff" in line]
        assert [line.partition("; ")[2] for line in lines] == [
            f"trying zone {B}",
            "trying g5.xlarge",
        ]
        assert [each["AvailabilityZone"] for each in aws.list_homes()] == [B]
        fleet.stop(key)
        await fleet.wait_state(key, "stopped", LONG_S)
        # The home was in use, so it stays where it is, and its files with it.
        aws.refused = {("*", "*")}
        again = fleet.ask(**BIG)
        row = await fleet.wait_state(again, "stopped", LONG_S)
    assert "nothing is left to be tried instead; pick another size" in row.reason
    assert "g5.2xlarge, g5.xlarge left (InsufficientInstanceCapacity)" in row.reason
    assert list_tried(fleet, again) == [("g5.2xlarge", B)]
    assert [each["AvailabilityZone"] for each in aws.list_homes()] == [B]
    assert aws.list_instances() == []


@pytest.mark.asyncio(loop_scope="module")
async def test_the_next_cloud_when_this_one_has_nothing_and_the_home_is_new(world):
    fleet, aws, _ = world
    homes = len(aws.list_homes())
    aws.refused = {("*", "*")}
    async with supervising(fleet):
        key = fleet.ask(owner="bob", **{**BIG, "instance_type": "g5.xlarge"})
        row = await fleet.wait_state(key, "running", LONG_S)
        assert (row.cloud, row.region, row.nano_usd_per_hour) == ("local", "here", 30_000_000)
        assert fleet.list_processes(key)
        assert list_tried(fleet, key) == [("g5.xlarge", A), ("g5.xlarge", B)]
        assert any(line.endswith("; trying local here") for line in fleet.list_lines(key))
        assert (aws.list_instances(), len(aws.list_homes())) == ([], homes)
        fleet.stop(key)
        await fleet.wait_state(key, "stopped", LONG_S)
