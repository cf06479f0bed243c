"""Reads what a cloud says that it bills: FOCUS 1.x exports and each cloud's own column names.

Costs arrive as doubles or as text: their shortest decimal text is taken, and no float is summed.
ref: https://focus.finops.org/focus-specification/v1-2/
"""

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from nightingale_hub.clock import US_PER_S
from nightingale_hub.errors import BadInput, TooLarge
from nightingale_hub.services.billing.currency import check_currency

MAX_FILE_BYTES = 64 << 20
MAX_TABLE_BYTES = 1 << 30
MAX_ROWS = 2_000_000
DAY_US = 86_400 * US_PER_S
TAGS = ("nightingale:instance", "nightingale-instance", "nightingale_instance")
_NUMBER = re.compile(r"-?\d{1,15}(\.\d{1,30})?([eE][+-]?\d{1,2})?", re.ASCII)
_SECONDS = {
    "second": 1, "seconds": 1, "s": 1, "minute": 60, "minutes": 60, "hour": 3600, "hours": 3600,
    "hrs": 3600, "h": 3600, "1 hour": 3600,
}  # fmt: skip
PROVIDERS = {"aws": "aws", "amazon": "aws", "microsoft": "azure", "azure": "azure", "google": "gcp"}
# What each cloud calls what FOCUS calls otherwise; the first that is there is read.
DIALECTS: dict[str, dict[str, tuple[str, ...]]] = {
    "focus": {
        "cost": ("BilledCost",),
        "currency": ("BillingCurrency",),
        "start": ("ChargePeriodStart",),
        "end": ("ChargePeriodEnd",),
        "resource": ("ResourceId",),
        "what": ("ServiceCategory", "ServiceName", "SkuId"),
        "quantity": ("ConsumedQuantity",),
        "unit": ("ConsumedUnit",),
        "tags": ("Tags",),
        "category": ("ChargeCategory",),
        "provider": ("ProviderName", "ServiceProviderName"),
    },
    "aws": {
        "cost": ("line_item_unblended_cost", "lineItem/UnblendedCost"),
        "currency": ("line_item_currency_code", "lineItem/CurrencyCode"),
        "start": ("line_item_usage_start_date", "lineItem/UsageStartDate"),
        "end": ("line_item_usage_end_date", "lineItem/UsageEndDate"),
        "resource": ("line_item_resource_id", "lineItem/ResourceId"),
        "what": ("line_item_usage_type", "lineItem/UsageType"),
        "quantity": ("line_item_usage_amount", "lineItem/UsageAmount"),
        "unit": ("pricing_unit", "pricing/unit"),
        "tags": ("resource_tags", "resourceTags/user:nightingale:instance"),
        "category": ("line_item_line_item_type", "lineItem/LineItemType"),
    },
    "azure": {
        "cost": ("costInBillingCurrency", "CostInBillingCurrency"),
        "currency": ("billingCurrency", "BillingCurrencyCode"),
        "start": ("date", "Date"),
        "resource": ("resourceId", "ResourceId"),
        "what": ("meterCategory", "MeterCategory"),
        "quantity": ("quantity", "Quantity"),
        "unit": ("unitOfMeasure", "UnitOfMeasure"),
        "tags": ("tags", "Tags"),
        "category": ("chargeType", "ChargeType"),
    },
    "gcp": {
        "cost": ("cost",),
        "currency": ("currency",),
        "start": ("usage_start_time",),
        "end": ("usage_end_time",),
        "resource": ("resource.name", "resource_name"),
        "what": ("sku.description", "sku_description"),
        "quantity": ("usage.amount", "usage_amount"),
        "unit": ("usage.unit", "usage_unit"),
        "tags": ("labels",),
        "category": ("cost_type",),
    },
}
NEEDED = ("cost", "currency", "start", "resource", "what")
KINDS = (
    ("disk", re.compile(r"storage|ebs|\bpd\b|disk", re.I)),
    ("address", re.compile(r"network|publicipv4|elasticip|\bip\b|address", re.I)),
    (
        "compute",
        re.compile(r"comput|boxusage|spotusage|virtual machine|instance|core|ram|gpu", re.I),
    ),
)


@dataclass(frozen=True)
class Charge:
    """One row: what one resource cost in a part of one UTC day."""

    cloud: str
    day_us: int
    resource_id: str
    kind: str
    currency: str
    cost: Decimal
    instance_id: str
    seconds: Decimal | None


def parse_bill(content: bytes) -> tuple[str, list[Charge]]:
    """Return the dialect of a CSV or Parquet export, and its charges for use of resources.

    Raises `BadInput` naming the first row that is wrong, `TooLarge` for more than is taken.
    """
    if len(content) > MAX_FILE_BYTES:
        raise TooLarge(f"a bill has at most {MAX_FILE_BYTES >> 20} MiB; export fewer days at once")
    rows = _read_parquet(content) if content[:4] == b"PAR1" else _read_csv(content)
    dialect = ""
    charges = []
    for number, row in enumerate(rows, start=1):
        if number > MAX_ROWS:
            raise TooLarge(f"a bill has at most {MAX_ROWS} rows; export fewer days at once")
        dialect = dialect or find_dialect(row)
        try:
            charge = _parse_row(dialect, row)
        except BadInput as error:
            raise BadInput(f"bill, row {number}: {error}") from error
        if charge is not None:
            charges.append(charge)
    if not dialect:
        raise BadInput("the bill has no rows")
    return dialect, charges


def find_dialect(row: Mapping[str, str]) -> str:
    """Return whose column names *row* has; raises `BadInput` when they are nobody's."""
    for dialect, names in DIALECTS.items():
        if all(any(name in row for name in names[needed]) for needed in NEEDED):
            return dialect
    needed = ", ".join(names[0] for names in (DIALECTS["focus"][each] for each in NEEDED))
    raise BadInput(f"these are no columns of a bill; a FOCUS export has {needed}")


def _parse_row(dialect: str, row: Mapping[str, str]) -> Charge | None:
    def get(name: str) -> str:
        names = DIALECTS[dialect].get(name, ())
        return next((row[each] for each in names if row.get(each)), "")

    resource = get("resource")
    # Taxes, fees and purchases are of no resource's use.
    if not resource or (get("category") or "Usage").lower() not in ("usage", "regular"):
        return None
    kind = find_kind(get("what"))
    if kind is None:
        return None
    start_us = _parse_time(get("start"))
    if get("end") and _parse_time(get("end")) - start_us > DAY_US:
        raise BadInput("it is of more than a day; export hourly or daily rows")
    cost = _parse_number(get("cost"))
    if cost < 0:
        raise BadInput("use with a negative cost; credits have a category of their own")
    unit = get("unit").strip().lower()
    seconds = None
    if kind == "compute" and unit in _SECONDS and get("quantity"):
        seconds = _parse_number(get("quantity")) * _SECONDS[unit]
    return Charge(
        cloud=_find_cloud(get("provider")) if dialect == "focus" else dialect,
        day_us=start_us - start_us % DAY_US,
        resource_id=resource[:500],
        kind=kind,
        currency=check_currency(get("currency").upper()),
        cost=cost,
        instance_id=_find_tag(get("tags")),
        seconds=seconds,
    )


def find_kind(what: str) -> str | None:
    """Return what kind of use *what* names, or None for what is never metered here."""
    return next((kind for kind, pattern in KINDS if pattern.search(what)), None)


def _find_cloud(provider: str) -> str:
    for word, cloud in PROVIDERS.items():
        if word in provider.lower():
            return cloud
    raise BadInput(f"provider {provider[:40]!r} is no cloud that is known here")


def _find_tag(text: str) -> str:
    if text.startswith("i-"):
        return text[:100]
    try:
        tags = json.loads(text or "{}")
    except ValueError:
        return ""
    if isinstance(tags, list):  # GCP's way: a list of key and value
        tags = {each.get("key"): each.get("value") for each in tags if isinstance(each, dict)}
    if not isinstance(tags, dict):
        return ""
    plain = {str(key).removeprefix("user_").removeprefix("user:"): tags[key] for key in tags}
    return next((str(plain[name])[:100] for name in TAGS if name in plain), "")


def _parse_number(text: str) -> Decimal:
    if not _NUMBER.fullmatch(text):
        raise BadInput(f"{text[:40]!r} is no number")
    return Decimal(text)


def _parse_time(text: str) -> int:
    try:
        if re.fullmatch(r"\d\d/\d\d/\d{4}", text, re.ASCII):  # Azure's way
            moment = datetime.strptime(text, "%m/%d/%Y")
        else:
            moment = datetime.fromisoformat(text.removesuffix(" UTC"))
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        return int(moment.timestamp()) * US_PER_S
    except (ValueError, OverflowError) as error:
        raise BadInput(f"{text[:40]!r} is no time") from error


def _read_csv(content: bytes) -> Iterator[dict[str, str]]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput("the bill is neither UTF-8 text nor Parquet") from error
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        for row in reader:
            if None in row or None in row.values():
                raise BadInput(f"bill, line {reader.line_num}: wrong number of columns")
            yield row
    except csv.Error as error:
        raise BadInput(f"bill, line {reader.line_num}: {error}") from error


def _read_parquet(content: bytes) -> Iterable[dict[str, str]]:
    # Only who imports Parquet pays for loading it.
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(io.BytesIO(content))
        groups = [file.metadata.row_group(each) for each in range(file.metadata.num_row_groups)]
        if sum(group.total_byte_size for group in groups) > MAX_TABLE_BYTES:
            raise TooLarge("the bill unpacks to more than 1 GiB; export fewer days at once")
        for batch in file.iter_batches(10_000):
            for row in batch.to_pylist():
                yield {name: _to_text(value) for name, value in row.items()}
    except (pyarrow.ArrowException, OSError) as error:
        raise BadInput(f"the bill is no Parquet file that can be read: {error}"[:300]) from error


def _to_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, list):  # a map: pairs
        return json.dumps(dict(value) if all(isinstance(each, tuple) for each in value) else value)
    return json.dumps(value) if isinstance(value, dict) else str(value)
