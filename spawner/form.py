"""The form on the hub's spawn page: what can be had, what it gives, what it costs, what is read.

Whatever comes from people or the database is escaped by the template engine.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from sqlalchemy import Row

from nightingale_hub.catalogue import PRESETS
from nightingale_hub.cloud_offers import Found, name_sku
from nightingale_hub.money import format_rate
from nightingale_hub.offers import LETTERS, Choice, Size
from nightingale_hub.terms import Tariff

TITLES = {"cpu": "CPU", "gpu": "GPU", "disk": "Disk"}

_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclass(frozen=True)
class Group:
    """The sizes of one resource; *checked* is the letter that is chosen at first."""

    resource: str
    title: str
    choices: list[Choice]
    checked: str


Types = Mapping[tuple[str, str], Found | str]


def render_form(
    choices: Sequence[Choice],
    size: Size,
    datasets: Sequence[Row[Any]],
    tariff: Tariff,
    types: Types | None = None,
    unsigned: Sequence[Row[Any]] = (),
    data_page: str = "",
) -> str:
    """Return the form's HTML in the payer's own prices, with *size* chosen where it can be had.

    *types* has what a cloud gives per cpu and gpu, or why it gives nothing; *unsigned* datasets
    wait for their terms to be accepted on *data_page*.
    """
    choices = [_refuse_unpriced(each, tariff) for each in choices]
    groups = [_group(resource, choices, size) for resource in LETTERS]
    chosen = {group.resource: group.checked for group in groups}
    can_start = all(chosen.values())
    given = {f"{cpu} {gpu}": _describe(each, tariff) for (cpu, gpu), each in (types or {}).items()}
    # Of a cloud's type the page itself says the price, once it runs.
    total = tariff.rate(Size(**chosen)) if can_start and not given else None
    return _templates.get_template("form.html").render(
        groups=groups,
        datasets=datasets,
        unsigned=unsigned,
        data_page=data_page,
        tariff=tariff,
        rates={each.sku: _format(tariff.rate_sku(each.sku), tariff.currency) for each in choices},
        total="" if given else _format(total, tariff.currency),
        can_start=can_start,
        types=given,
        presets=_list_presets(choices, given),
    )


def render_failure(message: str) -> str:
    """Return what stands in the form's place when nothing can be chosen, and why."""
    return _templates.get_template("failure.html").render(message=message)


def _format(nano: int | None, currency: str) -> str:
    return f"no price in {currency}" if nano is None else format_rate(nano, currency)


def _describe(found: Found | str, tariff: Tariff) -> dict[str, Any]:
    if isinstance(found, str):
        return {"nano": None, "says": found}
    nano = tariff.listed.get(name_sku(found.type.name))
    # As text: JavaScript's own numbers would round it.
    if nano is None:
        return {"nano": None, "says": f"{found.type}: {_format(None, tariff.currency)}"}
    return {"nano": str(nano), "says": str(found.type)}


def _refuse_unpriced(choice: Choice, tariff: Tariff) -> Choice:
    """Return *choice* refused where it is paid for by itself and has no price for the payer."""
    if choice.refusal or choice.type_sku or tariff.rate_sku(choice.sku) is not None:
        return choice
    why = f"it has no price in {tariff.currency}; choose another size or ask your admin"
    return replace(choice, refusal=why)


def _list_presets(choices: Sequence[Choice], given: dict[str, Any]) -> list[dict[str, str]]:
    """Return the named combinations that can be had."""
    possible = {(each.resource, each.letter) for each in choices if not each.refusal}
    presets = []
    for name, letters in PRESETS.items():
        wanted = dict(zip(LETTERS, letters, strict=True))
        is_given = not given or given[f"{wanted['cpu']} {wanted['gpu']}"]["nano"] is not None
        if set(wanted.items()) <= possible and is_given:
            presets.append({"name": name, **wanted})
    return presets


def _group(resource: str, choices: Sequence[Choice], size: Size) -> Group:
    ours = [each for each in choices if each.resource == resource]
    possible = [each.letter for each in ours if not each.refusal]
    wanted = getattr(size, resource)
    checked = wanted if wanted in possible else (possible[0] if possible else "")
    return Group(resource, TITLES[resource], ours, checked)
