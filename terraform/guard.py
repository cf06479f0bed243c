"""The plan guard: no apply may delete or replace a home, whatever the values or the drift.

In our modules the resource that holds a researcher's files is named `home`.
"""

import json
from typing import Any

HOME = "home"


def find_refusal(plan: dict[str, Any]) -> str | None:
    """Return why *plan* (of `terraform show -json`) may not be applied, or None.

    What it does not understand is refused: a home is not a thing to guess about.
    """
    changes = plan.get("resource_changes", [])
    if not isinstance(changes, list):
        return "the plan can't be read, so it is not applied"
    for each in changes:
        try:
            # An attachment may be replaced; what is attached may not.
            is_home = each["name"] == HOME and not each["type"].endswith("_attachment")
            is_lost = "delete" in each["change"]["actions"] or "forget" in each["change"]["actions"]
        except (TypeError, KeyError):
            return "the plan can't be read, so it is not applied"
        if is_home and each.get("mode", "managed") == "managed" and is_lost:
            return (
                f"the plan would delete or replace {each.get('address', HOME)}, which holds a "
                "researcher's files; nothing was changed"
            )
    return None


def format_error(message: str) -> str:
    """Return *message* as a line of the journal, as Terraform itself would say it."""
    diagnostic = {"severity": "error", "summary": message, "detail": ""}
    return json.dumps(
        {"@message": f"Error: {message}", "type": "diagnostic", "diagnostic": diagnostic}
    )
