"""Sizes become the cheapest type that covers them, at prices that name their source."""

import csv
import re
from datetime import UTC, datetime

import pytest

from nightingale_hub.catalogue import (
    GPUS,
    PRESETS,
    VCPUS,
    count_vcpus,
    find_type,
    list_nearest,
    list_types,
)
from nightingale_hub.clock import US_PER_S
from nightingale_hub.cloud_offers import Found, name_sku
from nightingale_hub.clouds import parse_clouds
from nightingale_hub.database import Database
from nightingale_hub.errors import ConfigError, NoOffer
from nightingale_hub.offers import (
    Size,
    find_offer,
    list_choices,
    list_prices,
    list_skus,
    list_types_by_size,
)
from nightingale_hub.services.billing.desk.verbs import serve
from nightingale_hub.services.billing.desk.visit import Visit
from nightingale_hub.services.billing.prices import (
    CLOUD_LIST,
    STALE_AFTER_US,
    list_stale,
    load_prices,
    parse_prices,
)
from nightingale_hub.spawner.form import render_form
from nightingale_hub.terms import find_tariff
from nightingale_hub.terraform.workspace import MODULES

CLOUDS = ("aws", "azure", "gcp", "gcp_cloud_run")
AT_US = int(datetime(2026, 11, 1, tzinfo=UTC).timestamp()) * US_PER_S
DISKS = "\n".join(
    f"{cloud},{region},disk.{letter},USD,{usd},2026-01-01,set by the operator"
    for cloud, region in (
        ("aws", "us-east-1"),
        ("azure", "westeurope"),
        ("azure", "northeurope"),
        ("gcp", "europe-west4"),
    )
    for letter, usd in (("S", "0.001"), ("M", "0.005"), ("L", "0.02"))
)
HEAD = "cloud,region,sku,currency,per_hour,effective,source"


@pytest.fixture(scope="module")
def priced(tmp_path_factory):
    database = Database(f"sqlite:///{tmp_path_factory.mktemp('book') / 'book.sqlite'}")
    database.upgrade()
    with database.write() as conn:
        load_prices(conn, parse_prices(CLOUD_LIST.read_text().splitlines()), 0)
        load_prices(conn, parse_prices([HEAD, *DISKS.splitlines()]), 0)
    yield database
    database.dispose()


@pytest.fixture
def conn(priced):
    with priced.read() as conn:
        yield conn


def test_every_type_is_told_once_with_a_whole_shape():
    every = [each for cloud in CLOUDS for each in list_types(cloud)]
    assert len(every) >= 40
    assert len({(each.cloud, each.name) for each in every}) == len(every)
    assert all(each.vcpus >= 1 and each.ram_gib >= 1 for each in every)
    assert all((each.gpus > 0) == bool(each.gpu) == (each.gpu_memory_gib > 0) for each in every)
    assert {"T4", "A100", "H100"} <= {each.gpu for each in every}


@pytest.mark.parametrize("cloud", CLOUDS)
def test_terraform_takes_every_type_of_the_catalogue_and_no_other_form(cloud):
    text = (MODULES / cloud / "instance" / "variables.tf").read_text()
    pattern = re.search(r'regex\("(\^.*?\$)", var\.size\.type\)', text)
    assert pattern
    for each in list_types(cloud):
        assert re.search(pattern[1], each.name), each.name
    for wrong in ("", "; id", "${file(1)}", "g5", "../etc"):
        assert not re.search(pattern[1], wrong)


def test_every_price_is_of_a_known_type_and_names_its_source_and_date():
    rows = list(csv.DictReader(CLOUD_LIST.read_text().splitlines()))
    assert len(rows) >= 100
    for row in rows:
        assert find_type(row["cloud"], row["sku"].removeprefix("type.")), row
        assert re.search(r"[0-9a-f]{40}|20\d\d-\d\d-\d\d", row["source"]), row
        assert re.fullmatch(r"20\d\d-\d\d-\d\d", row["effective"])


@pytest.mark.parametrize(
    ("cloud", "region", "size", "instance_type", "gives"),
    [
        ("aws", "us-east-1", Size(), "t3.xlarge", "4 vCPUs, 16 GiB"),
        ("aws", "us-east-1", Size("S", "S", "S"), "g4dn.xlarge", "1 x T4 16 GiB"),
        ("aws", "us-east-1", Size("XL", "S", "S"), "g4dn.2xlarge", "8 vCPUs"),
        ("aws", "us-east-1", Size("L", "M", "S"), "g6.xlarge", "1 x L4 24 GiB"),
        ("aws", "us-east-1", Size("L", "XL", "S"), "p5.4xlarge", "1 x H100 80 GiB"),
        ("aws", "us-east-1", Size("L", "XXL", "L"), "p4d.24xlarge", "8 x A100 40 GiB"),
        ("azure", "westeurope", Size("L", "S", "S"), "Standard_NC4as_T4_v3", "28 GiB"),
        ("azure", "westeurope", Size("L", "L", "S"), "Standard_NC24ads_A100_v4", "A100 80 GiB"),
        ("gcp", "europe-west4", Size("XL", "M", "S"), "g2-standard-8", "1 x L4 24 GiB"),
    ],
)
def test_a_size_becomes_the_cheapest_type_that_covers_it(
    conn, cloud, region, size, instance_type, gives
):
    offer = find_offer(conn, cloud, region, size, AT_US)
    assert offer.instance_type == instance_type
    known = find_type(cloud, instance_type)
    assert known and gives in str(known)
    assert offer.vcpus == known.vcpus == count_vcpus(cloud, instance_type, size.cpu)
    prices = dict.fromkeys(list_skus(cloud, instance_type, size))
    assert list(prices) == [f"type.{instance_type}", f"disk.{size.disk}"]
    for each in list_types(cloud):
        cheaper = list_types_by_size(conn, cloud, region, AT_US)[(size.cpu, size.gpu)]
        assert isinstance(cheaper, Found)
        if each.covers(size.cpu, size.gpu) and each.name != instance_type:
            assert cheaper.type.name == instance_type


def test_what_cannot_be_had_says_what_is_nearest(conn):
    with pytest.raises(NoOffer, match="azure northeurope has no type with cpu L and gpu XXL") as no:
        find_offer(conn, "azure", "northeurope", Size("L", "XXL", "S"), AT_US)
    assert "nearest is cpu L, gpu XL (Standard_NC24ads_A100_v4" in str(no.value)
    refused = list_types_by_size(conn, "gcp_cloud_run", "us-central1", AT_US)[("XL", "XXL")]
    assert isinstance(refused, str)
    assert "gcp_cloud_run us-central1 has no type with cpu XL and gpu XXL together" in refused
    assert "nearest is cpu L, gpu M (cpu-4-memory-16-gpu-nvidia-l4" in refused


def test_a_region_without_prices_and_a_disk_without_one_offer_nothing(conn):
    with pytest.raises(NoOffer, match="no price"):
        find_offer(conn, "aws", "mars-1", Size(), AT_US)
    with pytest.raises(NoOffer, match="disk size S is not offered by gcp us-central1"):
        find_offer(conn, "gcp", "us-central1", Size(), AT_US)
    listed = list_types_by_size(conn, "aws", "mars-1", AT_US)
    assert "no type with a price" in str(listed[("S", "none")])


def test_the_nearest_begins_with_the_wish_and_keeps_the_gpu():
    assert list_nearest("L", "M")[0] == ("L", "M")
    assert list_nearest("L", "M")[1] == ("M", "M")
    assert len(list_nearest("S", "none")) == len(VCPUS) * len(GPUS)


def test_presets_are_sizes():
    for cpu, gpu, disk in PRESETS.values():
        assert cpu in VCPUS
        assert gpu in GPUS
        assert Size(cpu, gpu, disk)


def test_choices_of_a_cloud_say_from_what_price_on(conn):
    choices = {
        f"{each.resource} {each.letter}": each
        for each in list_choices(conn, "aws", "us-east-1", AT_US)
    }
    assert choices["cpu S"].nano_usd_per_hour == 166_400_000
    assert (choices["gpu S"].nano_usd_per_hour, choices["gpu S"].sku) == (
        526_000_000,
        "type.g4dn.xlarge",
    )
    assert choices["gpu S"].gives == "1 GPU of 16 GiB"
    assert choices["gpu XXL"].gives == "8 GPUs of 40 GiB"
    assert not any(each.refusal for each in choices.values())


def test_the_form_of_a_cloud_says_what_a_choice_really_gives(conn):
    page = render_form(
        list_choices(conn, "aws", "us-east-1", AT_US),
        Size("L", "S", "S"),
        [],
        find_tariff(conn, "alice", "aws", "us-east-1", AT_US),
        list_types_by_size(conn, "aws", "us-east-1", AT_US),
    )
    assert "g4dn.xlarge: 4 vCPUs, 16 GiB RAM, 1 x T4 16 GiB" in page
    assert "from $0.526/h" in page
    assert page.count("data-cpu=") == len(PRESETS)
    local = render_form([], Size(), [], find_tariff(conn, "alice", "local", "here", AT_US))
    assert "data-cpu=" not in local
    assert 'data-types="{}"' in local


@pytest.mark.parametrize("instead", [{"g5.xlarge": ["g9.huge"]}, {"t2.nano": ["g5.xlarge"]}])
def test_an_operators_policy_names_types_of_the_catalogue(instead):
    cloud = {"zones": ["us-east-1a"], "image": "ami-0a", "hub_cidrs": ["10.0.0.0/24"]}
    with pytest.raises(ConfigError, match="not in the catalogue"):
        parse_clouds({"aws": {**cloud, "instead": instead}})


def test_a_refresh_takes_this_versions_list_and_says_what_is_old(database):
    with database.write() as conn:
        visit = Visit(conn, "root", True, AT_US, "Nightingale", 30)
        first = serve(visit, "price.refresh", {})
        again = serve(visit, "price.refresh", {})
    assert first["added"] == again["known"] >= 100
    assert (first["known"], again["added"]) == (0, 0)
    assert {each["cloud"] for each in first["stale"]} == {"aws", "gcp_cloud_run"}
    newer = f"{HEAD}\naws,us-east-1,{name_sku('g5.xlarge')},USD,0.9,2026-11-01,a later reading"
    with database.write() as conn:
        visit = Visit(conn, "root", True, AT_US, "Nightingale", 30)
        assert serve(visit, "price.refresh", {"csv": newer})["added"] == 1
        listed = list_prices(conn, "aws", "us-east-1", "USD", AT_US)
    assert listed["type.g5.xlarge"] == 900_000_000


def test_a_price_is_old_after_half_a_year_and_not_before(database):
    line = f"{HEAD}\naws,us-east-1,type.g5.xlarge,USD,1,2026-01-01,somewhere"
    since_us = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()) * US_PER_S
    with database.write() as conn:
        load_prices(conn, parse_prices(line.splitlines()), since_us)
        assert list_stale(conn, since_us + STALE_AFTER_US) == []
        [stale] = list_stale(conn, since_us + STALE_AFTER_US + 1)
    assert (stale.cloud, stale.region, stale.prices, stale.oldest_us) == (
        "aws",
        "us-east-1",
        1,
        since_us,
    )
