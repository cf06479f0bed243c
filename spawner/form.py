"""The form on the hub's spawn page: what can be had, what it gives, what it costs, what is read.

Whatever comes from people or the database is escaped by the template engine.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from sqlalchemy import Row

from nightingale_hub.money import format_rate
from nightingale_hub.offers import LETTERS, Choice, Size

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


def render_form(choices: Sequence[Choice], size: Size, datasets: Sequence[Row[Any]]) -> str:
    """Return the form's HTML, with *size* chosen as far as it can be had."""
    groups = [_group(resource, choices, size) for resource in LETTERS]
    total = sum(
        each.nano_usd_per_hour or 0
        for group in groups
        for each in group.choices
        if each.letter == group.checked
    )
    can_start = all(group.checked for group in groups)
    return _templates.get_template("form.html").render(
        groups=groups, datasets=datasets, total=format_rate(total), can_start=can_start
    )


def render_failure(message: str) -> str:
    """Return what stands in the form's place when nothing can be chosen, and why."""
    return _templates.get_template("failure.html").render(message=message)


def _group(resource: str, choices: Sequence[Choice], size: Size) -> Group:
    ours = [each for each in choices if each.resource == resource]
    possible = [each.letter for each in ours if not each.refusal]
    wanted = getattr(size, resource)
    checked = wanted if wanted in possible else (possible[0] if possible else "")
    return Group(resource, TITLES[resource], ours, checked)
