"""Prices are read from text exactly, published once, and never changed for a date."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from nightingale_hub.errors import BadInput, Conflict
from nightingale_hub.offers import Size, find_offer
from nightingale_hub.services.billing.biller import Biller
from nightingale_hub.services.billing.prices import (
    COLUMNS,
    LIST,
    load_prices,
    parse_prices,
    parse_rate,
)
from nightingale_hub.services.billing.service import make
from nightingale_hub.tables.billing import price
from tests.serving import make_context, serving
from tests.usage import parse_time

HEAD = ",".join(COLUMNS) + "\n"
GOOD = HEAD + "local,here,cpu.S,USD,0.02,2026-01-01,list\n"


def list_nano(conn):
    return conn.execute(select(price.c.nano_per_hour).order_by(price.c.id)).scalars().all()


@given(st.integers(0, 10**14))
def test_a_price_of_nine_decimals_comes_through_exactly(nano):
    assert parse_rate(format(Decimal(nano).scaleb(-9), "f")) == nano


@pytest.mark.parametrize(
    "text",
    [*"-0.01 NaN Infinity 1e3 0.0000000001 .5 5. 1,5 $1 1_0 ٣ 99999999 999999".split(), "", " 1"],
)
def test_what_is_no_exact_price_is_refused(text):
    with pytest.raises(BadInput):
        parse_rate(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has the columns"),
        ("a,b\n", "has the columns"),
        (HEAD + "local,here,cpu.S,USD,-1,2026-01-01,list\n", "line 2: '-1' is no price"),
        (HEAD + "local,here,cpu.S,USD,1,2026-02-30,list\n", "no date"),
        (HEAD + "local,here,cpu.S,USD,1,2026-01-01,\n", "a column is empty"),
        (HEAD + "local,here,cpu.S,USD,1,2026-01-01\n", "wrong number of columns"),
        (GOOD + "local,here,cpu.S,USD,0.03,2026-01-01,list\n", "line 3: cpu.S has two prices"),
    ],
)
def test_a_wrong_file_names_its_line(text, message):
    with pytest.raises(BadInput, match=message):
        parse_prices(text.splitlines())


def test_the_file_that_we_ship_prices_every_size_of_the_local_cloud(database):
    with database.write() as conn:
        assert load_prices(conn, parse_prices(LIST.read_text().splitlines()), 0) == 8
        at_us = parse_time("2026-11-23 00:00:00")
        offer = find_offer(conn, "local", "here", Size("M", "none", "M"), at_us)
    assert offer.nano_usd_per_hour == 45_000_000


def test_loading_again_writes_nothing_and_a_later_date_wins_from_then_on(database):
    later = GOOD + "local,here,cpu.S,USD,0.03,2026-07-01,list\n"
    with database.write() as conn:
        assert load_prices(conn, parse_prices(GOOD.splitlines()), 0) == 1
        assert load_prices(conn, parse_prices(GOOD.splitlines()), 0) == 0
        assert load_prices(conn, parse_prices(later.splitlines()), 0) == 1
        assert list_nano(conn) == [20_000_000, 30_000_000]


def test_a_published_price_never_changes(database):
    changed = (
        HEAD
        + "local,here,disk.S,USD,1,2026-01-01,list\nlocal,here,cpu.S,USD,0.03,2026-01-01,list\n"
    )
    with database.write() as conn:
        load_prices(conn, parse_prices(GOOD.splitlines()), 0)
    with pytest.raises(Conflict, match="already 20000000 nano-USD/h"), database.write() as conn:
        load_prices(conn, parse_prices(changed.splitlines()), 0)
    with database.read() as conn:
        assert conn.execute(select(price.c.sku)).scalars().all() == ["cpu.S"]


@pytest.mark.parametrize("text", [GOOD.replace("0.02", "0.03"), "nonsense", None])
async def test_a_wrong_file_is_logged_and_leaves_the_prices_in_force(
    database, tmp_path, caplog, text
):
    file = tmp_path / "prices.csv"
    with database.write() as conn:
        load_prices(conn, parse_prices(GOOD.splitlines()), 0)
    if text is not None:
        file.write_text(text)
    await Biller(make_context("billing", database), file).step()
    assert "the price list was not taken" in caplog.text
    with database.read() as conn:
        assert list_nano(conn) == [20_000_000]


async def test_the_service_publishes_its_file_once(database):
    async with serving("billing", database, make) as (_client, service):
        for _ in range(2):
            await service.loops[0].step()
    with database.read() as conn:
        rows = conn.execute(select(price.c.sku, price.c.nano_per_hour))
        rates = {row.sku: row.nano_per_hour for row in rows}
        assert (rates["cpu.L"], rates["gpu.none"], rates.get("gpu.S")) == (80_000_000, 0, None)
        assert len(list_nano(conn)) == 8
