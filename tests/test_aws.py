"""A server's life on AWS: the supervisor, the real provider, and an account that is moto's.

One home from the first start to the last; one instance, whoever is killed on the way.
"""

import asyncio
import base64
import signal
from pathlib import Path

import pytest
from sqlalchemy import insert

from nightingale_hub.clock import now_us
from nightingale_hub.database import Database
from nightingale_hub.processes import send_signal
from nightingale_hub.services.supervisor import ground
from nightingale_hub.services.supervisor.site import Site
from nightingale_hub.tables.supervision import resize
from nightingale_hub.terraform.keeping import end_keeper, find_keeper
from nightingale_hub.terraform.states import find_state
from nightingale_hub.terraform.workspace import Workspace, get_module
from tests.aws import REGION, SECRET, BootOfMoto, needs_mirror, running_moto
from tests.fleet import running_fleet, supervising
from tests.local_instance import wait_for
from tests.serving import make_context
from tests.terraform_cloud import find_terraform_process

pytestmark = [needs_mirror, pytest.mark.timeout(900)]
ROW = {"cloud": "aws", "region": REGION, "instance_type": "g4dn.xlarge"}
LONG_S = 400
survives = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def aws():
    with running_moto() as account:
        yield account


@pytest.fixture
async def cloud(tmp_path, aws):
    database = Database(f"sqlite:///{tmp_path / 'test.sqlite'}")
    database.upgrade()
    settings = {**aws.settings, "db_url": database.url}  # the keeper opens it for itself
    async with running_fleet(database, tmp_path / "state", **settings) as fleet:
        boot = BootOfMoto(fleet, aws)
        try:
            yield fleet, boot
        finally:
            boot.close()
    keeper = find_keeper(fleet.settings)
    if keeper is not None:
        end_keeper(keeper)
    database.dispose()


async def start(fleet, boot, server=""):
    key = fleet.ask(server=server, **ROW)
    await boot.boot(key, LONG_S)
    await fleet.wait_state(key, "running", LONG_S)
    return key


def check_no_secret_was_written_down(folder, fleet, aws, key, cloud_id):
    """Look for the account's secret and the server's own in all that a start leaves behind."""
    canaries = [SECRET, "of the server"]
    # The record, plans, journals, logs and what Terraform was given.
    assert find_canaries(folder, canaries) == []
    assert find_in_command_lines(canaries) == []
    with fleet.database.read() as conn:
        state = find_state(conn, fleet.settings.secret_key(), f"instance/{key}")
    assert state
    assert not any(each in state for each in canaries)
    attribute = aws.ec2.describe_instance_attribute(InstanceId=cloud_id, Attribute="userData")
    told = base64.b64decode(attribute["UserData"]["Value"]).decode()
    assert not any(each in told for each in canaries)
    # What was told and does open something is dead: it was used.
    assert fleet.get(key).nonce_sha256 is None
    assert "nonce" in told


def find_canaries(folder, canaries):
    """Return where below *folder* one of *canaries* stands, in clear or as base64."""
    needles = [each.encode() for each in canaries]
    needles += [base64.b64encode(each) for each in needles]
    found = []
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.stat().st_size < 64 << 20:
            content = path.read_bytes()
            found += [f"{path}: {each!r}" for each in needles if each in content]
    return found


def find_in_command_lines(canaries):
    return [
        path
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if any(each.encode() in _read_quietly(path) for each in canaries)
    ]


def _read_quietly(path):
    try:
        return path.read_bytes()
    except OSError:
        return b""


def attached(aws):
    [instance] = aws.list_instances()
    mapped = instance["BlockDeviceMappings"]
    [home] = [each["Ebs"]["VolumeId"] for each in mapped if each["DeviceName"] == "/dev/sdh"]
    return instance, home


async def test_one_home_through_start_resize_stop_and_the_next_start(cloud, aws, tmp_path):
    fleet, boot = cloud
    async with supervising(fleet):
        key = await start(fleet, boot)
        before, home = attached(aws)
        assert before["InstanceType"] == "g4dn.xlarge"
        assert before.get("PublicIpAddress") is None
        assert before["MetadataOptions"]["HttpTokens"] == "required"
        check_no_secret_was_written_down(tmp_path, fleet, aws, key, before["InstanceId"])
        wish = {"instance_type": "g5.xlarge", "cpu": "M", "gpu": "none", "disk": "S"}
        with fleet.database.write() as conn:
            conn.execute(
                insert(resize).values(
                    instance_id=key,
                    nano_usd_per_hour=1,
                    actor="alice",
                    phase="applying",
                    asked_us=now_us(),
                    **wish,
                )
            )
        await fleet.wait_resized(key, "done", LONG_S)
        after, same_home = attached(aws)
        assert (after["InstanceId"], same_home) == (before["InstanceId"], home)
        assert after["InstanceType"] == "g5.xlarge"
        fleet.stop(key)
        await fleet.wait_state(key, "stopped", LONG_S)
        assert aws.list_instances() == []
        assert [each["VolumeId"] for each in aws.list_homes()] == [home]
        key = await start(fleet, boot)
        again, same_home = attached(aws)
        assert same_home == home
        assert again["InstanceId"] != before["InstanceId"]
        assert "The network is made first; it is kept for later starts" not in fleet.list_lines(key)
        fleet.stop(key)
        await fleet.wait_state(key, "stopped", LONG_S)
    assert [each["VolumeId"] for each in aws.list_homes()] == [home]


async def test_a_home_goes_when_it_is_to_go_and_only_then(cloud, aws):
    fleet, _ = cloud
    before = len(aws.list_homes())
    key = fleet.ask(owner="carol", **ROW)
    fleet.stop(key)
    context = make_context("supervisor", fleet.database, fleet.settings)
    site = Site(fleet.settings, fleet.get(key))

    async def tell(_line):
        pass

    cloud_set = ground.get_cloud(site)
    network = await ground._ensure(context, site, ground._network(site, cloud_set), tell)
    home = ground._home(site, cloud_set, network["network_ref"])
    made = await ground._ensure(context, site, home, tell)
    assert len(aws.list_homes()) == before + 1
    assert await ground._ensure(context, site, home, tell) == made
    for _ in range(2):  # one that is gone already is fine
        await ground.remove_home(context, site)
        assert len(aws.list_homes()) == before


def find_terraform_of(fleet, key):
    workspace = Workspace(
        fleet.settings.state_path / "terraform" / key, get_module("aws", "instance")
    )
    run = workspace.find_run()
    if run is None or "aws_instance.instance: Creating" not in _read(run):
        return None
    return find_terraform_process(run)


def _read(run):
    path = run.directory / "journal.ndjson"
    return path.read_text() if path.exists() else ""


@survives
@pytest.mark.parametrize("victim", ["terraform", "keeper"])
async def test_exactly_one_instance_exists_after_a_kill_while_it_is_made(cloud, aws, victim):
    fleet, boot = cloud
    async with supervising(fleet):
        key = fleet.ask(owner=f"bob-{victim}", **ROW)
        terraform = await fleet.wait(lambda: find_terraform_of(fleet, key), LONG_S)
        await asyncio.to_thread(_wait_for_instance, aws)
        keeper = find_keeper(fleet.settings)
        assert keeper is not None
        killed = terraform if victim == "terraform" else keeper.identity
        assert send_signal(killed, signal.SIGKILL)
        await fleet.wait(lambda: fleet.get(key).actual == "booting", LONG_S)
        await boot.boot(key, LONG_S)
        await fleet.wait_state(key, "running", LONG_S)
        assert len(aws.list_instances()) == 1
        assert any("goes on with it" in line for line in fleet.list_lines(key)) or (
            victim == "keeper"
        )
        fleet.stop(key)
        await fleet.wait_state(key, "stopped", LONG_S)
        assert aws.list_instances() == []


def _wait_for_instance(aws):
    wait_for(aws.list_instances, timeout_s=60)
