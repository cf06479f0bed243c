"""What a person may choose, from the form or as JSON: one size per resource, nothing else."""

from typing import Any

from nightingale_hub.errors import BadInput
from nightingale_hub.offers import LETTERS, Size, parse_size

# The hub's own field; it has checked it before we are asked.
NOT_OURS = {"_xsrf"}


def parse_form(form: dict[str, list[Any]]) -> dict[str, str]:
    """Return the user options that the submitted *form* says.

    Raises `BadInput` for an unknown field, for one given twice, and for a size that is none.
    """
    options: dict[str, object] = {}
    for name, values in form.items():
        if name in NOT_OURS:
            continue
        if len(values) != 1:
            raise BadInput(f"option {name[:40]!r} is given {len(values)} times; give it once")
        options[name] = values[0]
    return to_options(parse_options(options))


def parse_options(options: object) -> Size:
    """Return the size that user options name; raises `BadInput` for anything else."""
    if not isinstance(options, dict):
        raise BadInput(f"options must be an object with {', '.join(LETTERS)}")
    unknown = [str(name)[:40] for name in options if name not in LETTERS]
    if unknown:
        raise BadInput(f"unknown option {unknown[0]!r}; choose {', '.join(LETTERS)}")
    return parse_size(options)


def to_options(size: Size) -> dict[str, str]:
    """Return *size* as user options."""
    return {resource: getattr(size, resource) for resource in LETTERS}


def find_last_size(options: object) -> Size:
    """Return the size that was chosen last, or the default when that cannot be told."""
    try:
        return parse_options(options)
    except BadInput:
        return Size()
