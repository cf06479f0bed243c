"""A cloud's bill is read exactly, in every form, and what differs from the meter is found."""

import base64
import csv
import io
import json
from datetime import UTC, datetime
from decimal import Decimal

import pyarrow
import pyarrow.parquet
import pytest
from beancount import loader
from sqlalchemy import select, update

from nightingale_hub.errors import BadInput, Conflict, NotAllowed, TooLarge
from nightingale_hub.findings import FindingState, change_state
from nightingale_hub.services.billing import bills
from nightingale_hub.services.billing.bills import parse_bill
from nightingale_hub.services.billing.desk.verbs import serve
from nightingale_hub.services.billing.desk.visit import Visit
from nightingale_hub.services.billing.due import check_complete
from nightingale_hub.services.billing.ledger import (
    fold_balances,
    list_unbalanced,
    list_wrong_balances,
)
from nightingale_hub.services.billing.reconcile import import_bill, list_days, list_phantoms
from nightingale_hub.tables.billing import balance
from nightingale_hub.tables.log import finding
from nightingale_hub.tables.reconciliation import bill_charge
from nightingale_hub.usage import begin_holding
from tests.desk import ask
from tests.record import S, add_instance
from tests.usage import add_segment, parse_time, post_all

DAY = parse_time("2026-11-03 00:00:00")
HOUR = 3600 * S
RATE = 100_000_000  # 0.10 USD/h


def focus(*rows, **changes):
    """A FOCUS export with (resource, category, cost, hours, instance) in each row, as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(
        text,
        "BilledCost BillingCurrency ChargePeriodStart ChargePeriodEnd ResourceId ServiceCategory "
        "ConsumedQuantity ConsumedUnit ChargeCategory ProviderName Tags".split(),
    )
    writer.writeheader()
    for resource, category, cost, hours, instance in rows:
        writer.writerow(
            {
                "BilledCost": cost,
                "BillingCurrency": "USD",
                "ChargePeriodStart": "2026-11-03T00:00:00Z",
                "ChargePeriodEnd": "2026-11-04T00:00:00Z",
                "ResourceId": resource,
                "ServiceCategory": category,
                "ConsumedQuantity": hours,
                "ConsumedUnit": "Hours",
                "ChargeCategory": "Usage",
                "ProviderName": "AWS",
                "Tags": json.dumps({"nightingale:instance": instance} if instance else {}),
            }
            | changes
        )
    return text.getvalue().encode()


@pytest.fixture
def books(database):
    """A database with two hours of an instance on AWS, one of its owner's."""
    with database.write() as conn:
        key = add_instance(conn, "i-ours", cloud="aws", nano_usd_per_hour=RATE)
        add_segment(conn, key, DAY + HOUR, DAY + 3 * HOUR, "", meter="allocated", cause="gone")
        add_segment(conn, key, DAY + HOUR, DAY + 3 * HOUR, cause="stop accepted")
        post_all(conn)
    return database


def take(database, content, at_us=DAY + 40 * HOUR):
    with database.write() as conn:
        days = import_bill(conn, "bill.csv", content, "ops", at_us)["days"]
        kinds = sorted(conn.execute(select(finding.c.kind)).scalars())
    return days, kinds


def test_a_bill_that_agrees_finds_nothing_and_publishes_the_day(books):
    days, kinds = take(books, focus(("r1", "Compute", "0.2", "2.0", "i-ours")))
    assert kinds == []
    (day,) = days
    assert (day["theirs_micro"], day["ours_micro"]) == (200_000, 200_000)
    assert (day["theirs_s"], day["ours_s"], day["drifts"]) == (7200, 7200, 0)
    with books.read() as conn:
        (shown,) = list_days(conn)
    assert (shown["day"], shown["drift_micro"]) == ("2026-11-03", 0)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([("r1", "Compute", "0.2", "2.0005", "i-ours")], []),
        ([("r1", "Compute", "0.2", "2.001", "i-ours")], ["bill_drift"]),  # 3.6 s apart
        ([("r1", "Compute", "0.209", "2", "i-ours")], []),
        ([("r1", "Compute", "0.2101", "2", "i-ours")], ["bill_drift"]),  # over a cent apart
        (
            [("r1", "Compute", "0.2", "2", "i-ours"), ("r2", "Compute", "1", "1", "i-else")],
            ["bill_orphan"],
        ),
        ([("r2", "Storage", "1", "", "")], ["bill_orphan", "bill_phantom"]),
    ],
)
def test_orphans_phantoms_and_drift_are_found_within_the_tolerance(books, rows, expected):
    content = focus(*rows)
    assert take(books, content)[1] == expected
    assert take(books, content)[0] == [], "the same file again is nothing new"
    assert take(books, content + b"\n")[1] == expected, "and a newer one raises nothing twice"


def test_a_phantom_blocks_the_invoice_until_it_is_settled(books):
    take(books, focus(("r2", "Storage", "1", "", "")))
    with books.write() as conn:
        assert list_phantoms(conn, {"alice"}, DAY + 30 * HOUR) == ["i-ours"]
        assert list_phantoms(conn, {"bob"}, DAY + 30 * HOUR) == []
        with pytest.raises(Conflict, match="no cloud bills i-ours"):
            check_complete(conn, "user/alice", DAY + 30 * HOUR)
        number = conn.execute(
            select(finding.c.id).where(finding.c.kind == "bill_phantom")
        ).scalar_one()
        change_state(conn, number, FindingState.CLOSED, "ops", "a free tier", DAY)
        check_complete(conn, "user/alice", DAY + 30 * HOUR)


def test_a_newer_bill_of_a_day_takes_the_place_of_the_older(books):
    take(books, focus(("r2", "Storage", "1", "", "")))
    days, _ = take(books, focus(("r1", "Compute", "0.2", "2", "i-ours")))
    assert (days[0]["phantoms"], days[0]["orphans"]) == (0, 0)
    with books.read() as conn:
        assert conn.execute(select(bill_charge.c.resource_id)).scalars().all() == ["r1"]


def test_doubles_are_summed_as_the_decimals_that_they_were_written_as(books):
    rows = [("r1", "Compute", "0.1", "1", "i-ours")] * 2 + [
        ("r1", "Compute", "1E-7", "0", "i-ours")
    ]
    take(books, focus(*rows))
    with books.read() as conn:
        assert conn.execute(select(bill_charge.c.cost_micro)).scalar_one() == 200_000
    _, charges = parse_bill(focus(*rows))
    assert sum(each.cost for each in charges) == Decimal("0.2000001")


def test_parquet_is_read_as_the_same_charges(books):
    _, expected = parse_bill(focus(("r1", "Compute", "0.1", "1.1", "i-ours")))
    day = datetime(2026, 11, 3, tzinfo=UTC)
    tags = pyarrow.array([[("nightingale:instance", "i-ours")]], pyarrow.map_("string", "string"))
    table = pyarrow.table(
        {
            "BilledCost": [0.1],
            "BillingCurrency": ["USD"],
            "ChargePeriodStart": [day],
            "ChargePeriodEnd": [day.replace(day=4)],
            "ResourceId": ["r1"],
            "ServiceCategory": ["Compute"],
            "ConsumedQuantity": [1.1],
            "ConsumedUnit": ["Hours"],
            "ChargeCategory": ["Usage"],
            "ProviderName": ["AWS"],
            "Tags": tags,
        }
    )
    file = io.BytesIO()
    pyarrow.parquet.write_table(table, file)
    assert parse_bill(file.getvalue()) == ("focus", expected)


@pytest.mark.parametrize(
    ("cloud", "header", "row"),
    [
        (
            "aws",
            "lineItem/UnblendedCost,lineItem/CurrencyCode,lineItem/UsageStartDate,"
            "lineItem/UsageEndDate,lineItem/ResourceId,lineItem/UsageType,lineItem/UsageAmount,"
            "pricing/unit,resourceTags/user:nightingale:instance,lineItem/LineItemType",
            "0.2,USD,2026-11-03T00:00:00Z,2026-11-03T01:00:00Z,i-0abc,BoxUsage:t3.large,2,Hrs,"
            "i-ours,Usage",
        ),
        (
            "azure",
            "costInBillingCurrency,billingCurrency,date,resourceId,meterCategory,quantity,"
            "unitOfMeasure,tags,chargeType",
            '0.2,USD,11/03/2026,/vm/1,Virtual Machines,2,1 Hour,"{""nightingale:instance"": '
            '""i-ours""}",Usage',
        ),
        (
            "gcp",
            "cost,currency,usage_start_time,usage_end_time,resource.name,sku.description,"
            "usage.amount,usage.unit,labels,cost_type",
            "0.2,USD,2026-11-03 00:00:00 UTC,2026-11-03 01:00:00 UTC,vm-1,N1 Instance Core running,"
            '7200,seconds,"[{""key"": ""nightingale-instance"", ""value"": ""i-ours""}]",regular',
        ),
    ],
)
def test_each_clouds_own_names_are_read(cloud, header, row):
    dialect, (charge,) = parse_bill(f"{header}\n{row}\n".encode())
    assert (dialect, charge.cloud, charge.kind, charge.instance_id) == (
        cloud,
        cloud,
        "compute",
        "i-ours",
    )
    assert (charge.cost, charge.seconds, charge.day_us) == (Decimal("0.2"), Decimal(7200), DAY)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no rows"),
        (b"a,b\n1,2\n", "no columns of a bill"),
        (b"\xff\xfe", "neither UTF-8 text nor Parquet"),
        (b"PAR1 and nothing else", "no Parquet file"),
        (focus(("r", "Compute", "NaN", "1", "")), "row 1: 'NaN' is no number"),
        (focus(("r", "Compute", "-1", "1", "")), "negative cost"),
        (focus(("r", "Compute", "1e999", "1", "")), "is no number"),
        (focus(("r", "Compute", "1", "1", ""), BillingCurrency="XXX"), "currency 'XXX'"),
        (focus(("r", "Compute", "1", "1", ""), ChargePeriodStart="soon"), "is no time"),
        (focus(("r", "Compute", "1", "1", ""), ChargePeriodEnd="2026-12-03"), "more than a day"),
        (focus(("r", "Compute", "1", "1", ""), ProviderName="Acme"), "no cloud that is known"),
        (focus(("r", "Compute", "1", "1", "")) + b"1,2\n", "wrong number of columns"),
    ],
)
def test_a_wrong_bill_is_refused_with_its_row_and_changes_nothing(books, content, message):
    with pytest.raises(BadInput, match=message):
        take(books, content)
    with books.read() as conn:
        assert conn.execute(select(bill_charge)).all() == []


def test_a_bill_that_is_too_large_is_refused(monkeypatch):
    monkeypatch.setattr(bills, "MAX_FILE_BYTES", 10)
    with pytest.raises(TooLarge, match="fewer days"):
        parse_bill(focus(("r", "Compute", "1", "1", "")))
    monkeypatch.undo()
    monkeypatch.setattr(bills, "MAX_ROWS", 1)
    with pytest.raises(TooLarge, match="fewer days"):
        parse_bill(focus(*[("r", "Compute", "1", "1", "")] * 2))


def test_admins_take_bills_at_the_desk(books):
    content = base64.b64encode(focus(("r1", "Compute", "0.2", "2", "i-ours"))).decode()
    with books.write() as conn:
        visit = Visit(conn, "ops", True, DAY + 40 * HOUR, "us", 30)
        taken = serve(visit, "reconcile.take", {"name": "november.csv", "base64": content})
        assert (taken["is_new"], len(taken["days"])) == (True, 1)
        assert len(serve(visit, "reconcile.list", {})["days_compared"]) == 1
        with pytest.raises(BadInput, match="not base64"):
            serve(visit, "reconcile.take", {"name": "x", "base64": "?"})


def test_a_providers_credit_pays_the_clouds_bills_in_its_window_and_follows_a_corrected_bill(books):
    def left():
        with books.read() as conn:
            grants = ask(conn, "grant.list")["grants"]
            folded = fold_balances(conn)
            [credit] = [each for each in grants if each["kind"] == "provider"]
            assert folded[f"provider_credit:{credit['id']}"] == credit["left_micro"]
            assert list_unbalanced(conn) == [] and list_wrong_balances(conn) == []
            return credit["left_micro"]

    given = {"kind": "provider", "source": "AWS", "cloud": "aws", "amount": "0.30"}
    window = {"start": "2026-11-03", "end": "2026-11-30"}
    with books.write() as conn:
        ask(conn, "grant.add", DAY, **given, **window)
    take(books, focus(("i-1", "Compute", "0.20", "2", "i-ours")))
    assert left() == 100_000
    take(books, focus(("i-1", "Compute", "0.20", "2", "i-ours")))
    assert left() == 100_000, "the same bill again is nothing new"
    take(books, focus(("i-1", "Compute", "0.05", "2", "i-ours")), DAY + 50 * HOUR)
    assert left() == 250_000, "a corrected bill"
    take(books, focus(("i-1", "Compute", "0.20", "2", "i-ours"), ("v-1", "Storage", "9", "", "")))
    assert left() == 0, "never beyond what was given"
    with books.write() as conn:  # one that is given late pays what the first left
        ask(conn, "grant.add", DAY + 60 * HOUR, **{**given, "amount": "5"}, **window)
        credits = [each for each in ask(conn, "grant.list")["grants"] if each["customer"] is None]
    assert sorted(each["left_micro"] for each in credits) == [0, 0]


def test_a_disk_that_is_on_record_is_no_orphan(books):
    with books.write() as conn:
        begin_holding(conn, "i-ours", "disk", "vol-1", "disk.S", DAY)
    [day], kinds = take(
        books, focus(("i-1", "Compute", "0.20", "2", "i-ours"), ("vol-1", "Storage", "1", "", ""))
    )
    assert (day["orphans"], kinds) == (0, [])
    [day], kinds = take(
        books, focus(("i-1", "Compute", "0.20", "2", "i-ours"), ("vol-2", "Storage", "1", "", ""))
    )
    assert (day["orphans"], kinds) == (1, ["bill_orphan"])


def test_the_books_are_checked_exported_and_their_balances_rebuilt(books):
    with books.write() as conn:
        assert ask(conn, "ledger.check")["is_well"]
        conn.execute(update(balance).values(amount_micro=balance.c.amount_micro + 7))
        found = ask(conn, "ledger.check")
        assert not found["is_well"] and found["wrong_balances"] and not found["unbalanced"]
        assert ask(conn, "ledger.rebuild")["wrong"] == len(found["wrong_balances"])
        assert ask(conn, "ledger.check")["is_well"]
        exported = ask(conn, "ledger.export")
        text = base64.b64decode(exported["base64"]).decode()
        for verb in ("ledger.check", "ledger.export", "ledger.rebuild"):
            with pytest.raises(NotAllowed):
                ask(conn, verb, actor="alice", is_admin=False)
    _, errors, _ = loader.load_string(text)
    assert errors == [] and exported["name"] == "journal.beancount"
