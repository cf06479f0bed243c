"""Whoever is shown a price is shown what their own payer pays: by plan, in that currency."""

import html
import re

import pytest
from sqlalchemy import insert

from nightingale_hub import resizing
from nightingale_hub.errors import NotFound
from nightingale_hub.offers import Offer, Size, list_choices
from nightingale_hub.services.billing import holds
from nightingale_hub.services.billing.keeper import keep
from nightingale_hub.services.billing.plans import publish_plan
from nightingale_hub.spawner.form import render_form
from nightingale_hub.tables.billing import price
from nightingale_hub.tables.instances import instance
from nightingale_hub.terms import Plan, find_tariff, rate_offer, resolve_terms
from tests.desk import ask
from tests.prices import add_prices
from tests.record import S, add_instance

DEAR = Plan("dear", effective_us=1, markup_ppm=333_333)
BOOK = Plan("book", effective_us=1, price="book")


@pytest.fixture
def conn(database):
    with database.write() as conn:
        add_prices(conn)
        publish_plan(conn, DEAR, 0)
        publish_plan(conn, BOOK, 0)
        yield conn


def add_payer(conn, currency="USD", plan="dear"):
    ask(conn, "customer.add", 2, id="org/lab", name="Lab", kind="private", currency=currency)
    ask(conn, "customer.plan", 2, customer="org/lab", plan=plan)
    ask(conn, "member.add", 2, customer="org/lab", user="alice")


def show_form(conn, owner):
    choices = list_choices(conn, "local", "here", 3)
    page = render_form(choices, Size(), [], find_tariff(conn, owner, "local", "here", 3))
    return html.unescape(re.sub(r"<[^>]*>", " ", page.partition("<script>")[0]))


def test_the_form_shows_each_user_the_price_of_their_own_plan(conn):
    add_payer(conn)
    assert "Price:  $0.9105/h" in show_form(conn, "bob"), "nobody else pays: list price"
    # 10 + 900 + 0.5 million nano-dollars, marked up once: 1,213,999,696.5, half to even.
    assert "Price:  $1.213999696/h" in show_form(conn, "alice")
    assert "1 CPU, $0.01333333/h" in show_form(conn, "alice")


def test_in_another_currency_it_is_that_currencys_book_and_no_exchange(conn):
    add_payer(conn, "EUR")
    assert "no price in EUR" in show_form(conn, "alice")
    for sku, nano in (("cpu.S", 1_000_000), ("gpu.none", 0), ("disk.S", 2_000_000)):
        conn.execute(
            insert(price).values(
                cloud="local", region="here", sku=sku, currency="EUR", nano_per_hour=nano,
                effective_us=0, published_us=0, source="test",
            )
        )  # fmt: skip
    assert "Price:  0.003999999 EUR/h" in show_form(conn, "alice")


def test_a_size_without_a_price_in_the_payers_currency_cannot_be_chosen(conn):
    add_payer(conn, "EUR")
    for sku in ("cpu.S", "gpu.none", "disk.S"):
        conn.execute(
            insert(price).values(
                cloud="local", region="here", sku=sku, currency="EUR", nano_per_hour=5,
                effective_us=0, published_us=0, source="test",
            )
        )  # fmt: skip
    choices = list_choices(conn, "local", "here", 3)
    page = render_form(choices, Size(disk="M"), [], find_tariff(conn, "alice", "local", "here", 3))
    inputs = re.findall(r"<input[^>]*>", page)
    [large] = [tag for tag in inputs if 'id="nightingale-disk-M"' in tag]
    [small] = [tag for tag in inputs if 'id="nightingale-disk-S"' in tag]
    assert "disabled" in large and "checked" not in large and "data-nano" not in large
    assert "checked" in small and 'data-nano="5"' in small
    assert "Not to be had: it has no price in EUR" in show_form(conn, "alice")


@pytest.mark.parametrize("currency", ["USD", "EUR"])
def test_the_price_that_is_shown_is_the_price_that_is_held(conn, currency):
    add_payer(conn, currency)
    for sku, nano in (("cpu.M", 7_000_003), ("gpu.none", 11), ("disk.M", 2_000_000)):
        conn.execute(
            insert(price).values(
                cloud="local", region="here", sku=sku, currency="EUR", nano_per_hour=nano,
                effective_us=0, published_us=0, source="test",
            )
        )  # fmt: skip
    size = Size("M", "none", "M")
    nano_usd = sum(
        each.nano_usd_per_hour or 0
        for each in list_choices(conn, "local", "here", 3)
        if getattr(size, each.resource) == each.letter
    )
    key = add_instance(conn, created_us=3, nano_usd_per_hour=nano_usd)
    row = conn.execute(instance.select()).one()
    held = holds.find_rate(conn, row, resolve_terms(conn, "alice", 3), 3)
    offer = Offer("local", "here", "x", size, 2, 50, nano_usd)
    assert find_tariff(conn, "alice", "local", "here", 3).rate(size) == held
    assert rate_offer(conn, row, offer) == held, key


@pytest.mark.parametrize(("currency", "plan"), [("USD", "dear"), ("USD", "book"), ("EUR", "dear")])
def test_a_resize_in_a_cloud_is_held_at_the_price_of_the_type_it_will_be(conn, currency, plan):
    add_payer(conn, currency, plan)
    for sku, nano in (("type.small", 100), ("type.big", 7_000_003), ("disk.M", 50)):
        conn.execute(
            insert(price).values(
                cloud="aws", region="here", sku=sku, currency=currency, nano_per_hour=nano,
                effective_us=0, published_us=0, source="test",
            )
        )  # fmt: skip
    key = add_instance(
        conn, cloud="aws", instance_type="small", created_us=3, nano_usd_per_hour=150
    )
    row = conn.execute(instance.select()).one()
    offer = Offer("aws", "here", "big", Size("L", "none", "M"), 4, 50, 7_000_053)
    shown = rate_offer(conn, row, offer)
    before = holds.ask(conn, key, 3 + S)
    wanted = holds.Wanted(offer.size, "big", offer.nano_usd_per_hour)
    assert before.nano_per_hour < shown
    assert holds.ask_resize(conn, key, wanted, 3 + S).nano_per_hour == shown
    wish = resizing.Plan(resizing.to_offer(row, row), offer)
    resizing.ask_resize(conn, row, wish, "alice", 3 + S)
    keep(conn, key, 110 * S)
    kept = holds.find_hold(conn, key)
    assert kept is not None and kept.nano_per_hour == shown, "and kept while it is on the way"


def test_a_size_without_a_price_in_the_payers_currency_has_none(conn):
    add_payer(conn, "EUR")
    key = add_instance(conn, created_us=3)
    row = conn.execute(instance.select()).one()
    with pytest.raises(NotFound, match="no price in EUR"):
        rate_offer(conn, row, Offer("local", "here", "x", Size(), 1, 10, 5))
    assert key
