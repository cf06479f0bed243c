"""A size becomes an offer with its exact price, or a refusal that says what to do."""

import os

import pytest

from nightingale_hub.errors import BadInput, NoOffer
from nightingale_hub.offers import LETTERS, Size, find_offer, list_choices, list_letters, parse_size
from tests.prices import add_prices


@pytest.fixture
def conn(database):
    with database.write() as conn:
        yield conn


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"cpu": "XXL"}, "cpu size 'XXL' does not exist"),
        ({"cpu": "s"}, "choose one of S, M, L, XL"),
        ({"cpu": ["S"]}, "does not exist"),
        ({"cpu": None}, "does not exist"),
        ({"cpu": 1}, "does not exist"),
        ({"disk": "; rm -rf /"}, "does not exist"),
        ({"gpu": '${file("/etc/shadow")}'}, "does not exist"),
        ({"disk": "../../etc"}, "does not exist"),
        ({"memory": "S"}, "unknown option 'memory'"),
    ],
)
def test_a_size_that_is_none_is_refused_with_what_there_is(values, says):
    with pytest.raises(BadInput, match=says.replace("[", r"\[")):
        parse_size(values)


def test_a_huge_value_is_not_sent_back():
    with pytest.raises(BadInput) as refusal:
        parse_size({"cpu": "S" * 100_000})
    assert len(str(refusal.value)) < 200


def test_what_is_not_chosen_is_the_smallest():
    assert parse_size({}) == Size("S", "none", "S")
    assert parse_size({"disk": "M"}) == Size("S", "none", "M")


def test_an_offer_costs_what_its_sizes_cost_together(conn):
    add_prices(conn)
    offer = find_offer(conn, "local", "here", Size("S", "none", "L"), 1)
    assert offer.nano_usd_per_hour == 10_000_000 + 900_000_000 + 2_000_000
    assert (offer.vcpus, offer.disk_gib, offer.instance_type) == (1, 200, "local-S-none-L")


def test_the_newest_price_that_is_in_force_holds(conn):
    add_prices(conn, effective_us=100)
    add_prices(conn, effective_us=200, times=3)
    base = find_offer(conn, "local", "here", Size(), 199).nano_usd_per_hour
    assert find_offer(conn, "local", "here", Size(), 200).nano_usd_per_hour == 3 * base
    with pytest.raises(NoOffer, match="no price"):
        find_offer(conn, "local", "here", Size(), 99)
    with pytest.raises(NoOffer, match="no price"):
        find_offer(conn, "local", "elsewhere", Size(), 300)


def test_a_machine_offers_no_more_cpus_than_it_has(conn, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    add_prices(conn)
    refused = {
        (each.resource, each.letter): each.refusal
        for each in list_choices(conn, "local", "here", 1)
        if each.refusal
    }
    assert set(refused) == {("cpu", "L"), ("cpu", "XL"), ("gpu", "S")}
    with pytest.raises(NoOffer, match="this machine has 2 CPUs; choose a smaller cpu size"):
        find_offer(conn, "local", "here", Size(cpu="L"), 1)


def test_the_local_cloud_has_no_gpu(conn):
    add_prices(conn)
    with pytest.raises(NoOffer, match="no GPU; choose gpu none"):
        find_offer(conn, "local", "here", Size(gpu="S"), 1)


def test_every_size_is_listed_with_what_it_gives_and_costs(conn):
    add_prices(conn)
    choices = list_choices(conn, "local", "here", 1)
    listed = [(each.resource, each.letter) for each in choices]
    assert listed == [(r, letter) for r in LETTERS for letter in list_letters("local", r)]
    by_sku = {each.sku: each for each in choices}
    assert (by_sku["cpu.M"].gives, by_sku["cpu.M"].nano_usd_per_hour) == ("2 CPUs", 20_000_000)
    assert (by_sku["disk.S"].gives, by_sku["disk.S"].nano_usd_per_hour) == ("10 GiB home", 500_000)
