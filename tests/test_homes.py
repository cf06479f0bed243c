"""A server starts where its home is kept, and each home that is kept is known."""

import pytest

from nightingale_hub.errors import NoOffer
from nightingale_hub.homes import find_place
from nightingale_hub.instances import get
from nightingale_hub.offers import Size
from nightingale_hub.services.supervisor import ground
from nightingale_hub.services.supervisor.site import Site
from nightingale_hub.settings import NightingaleHub
from nightingale_hub.spawner.record import Record
from nightingale_hub.spawner.server import Server
from tests.prices import add_prices
from tests.record import S, add_instance, change

AWS = {"cloud": "aws", "region": "us-east-1"}


def add_stopped(conn, created_s, **columns):
    """Write an instance of alice that was ready and is stopped."""
    values = {"actual": "stopped", "wanted": "stopped", "created_us": created_s * S}
    return add_instance(conn, **values | columns)


async def test_a_start_after_one_that_went_on_in_another_cloud_finds_its_home(database, tmp_path):
    given = {"hub_cidrs": ["10.0.0.0/24"], "image": "ami-1", "zones": ["us-east-1a"]}
    settings = NightingaleHub.from_dict(
        {**AWS, "clouds": {"aws": given}, "state_dir": str(tmp_path), "db_url": database.url}
    )
    settings.ensure_state()
    with database.write() as conn:
        add_prices(conn)
        home = add_stopped(conn, 80)
        # It never was ready, so nobody put anything into its home.
        add_stopped(conn, 90, **AWS, ready_us=None)
    server = Server(settings, Record(database.url), "alice", "")
    key = await server.ask(Size(), {}, "/user/alice/")
    with database.write() as conn:
        row = get(conn, key)
        assert (row.cloud, row.region) == ("local", "here")
        change(conn, key, actual="stopped")
        change(conn, home, actual="gone")
    with pytest.raises(NoOffer, match="aws us-east-1"):
        await server.ask(Size(), {}, "/user/alice/")


@pytest.mark.parametrize("part", ["home", "network"])
def test_clouds_that_share_the_name_of_a_region_share_no_state(database, tmp_path, part):
    settings = NightingaleHub.from_dict({"state_dir": str(tmp_path)})
    cloud_set = {"zones": ["us-central1-a"], "hub_cidrs": ["10.0.0.0/24"]}
    paths = []
    for cloud in ("aws", "gcp", "gcp_cloud_run"):
        with database.write() as conn:
            key = add_stopped(conn, 80, cloud=cloud, region="us-central1")
            site = Site(settings, get(conn, key))
        grounds = {
            "home": ground._home(site, cloud_set, {}),
            "network": ground._network(site, cloud_set),
        }
        paths.append(grounds[part].path)
    assert len(set(paths)) == 3
    # States that exist are found where they are.
    assert paths[0].startswith(f"{part}/us-central1")


def test_a_home_that_was_removed_is_no_place_though_older_instances_used_it(database):
    with database.write() as conn:
        add_stopped(conn, 10, **AWS)
        add_stopped(conn, 20)
        last = add_stopped(conn, 30)
        add_stopped(conn, 40, **AWS, server_name="other")
        assert find_place(conn, "alice", "") == ("local", "here")
        change(conn, last, actual="gone")
        assert find_place(conn, "alice", "") == ("aws", "us-east-1")
        assert find_place(conn, "alice", "none") is None
