"""What the agent writes down about its own instance, as programs in the instance read it."""

import json
from collections.abc import Mapping
from typing import Any

STATUS_FILE_NAME = "NIGHTINGALE_STATUS_FILE"


def load_local(environment: Mapping[str, str], missing: list[str]) -> dict[str, Any] | None:
    """Return the instance's own status, or None outside one.

    Where it cannot be read, says so in *missing* and returns None.
    """
    path = environment.get(STATUS_FILE_NAME)
    if not path:
        return None
    try:
        with open(path, encoding="utf-8") as file:
            local = json.load(file)
    except (OSError, ValueError):
        local = None
    if not isinstance(local, dict):
        missing.append(f"the instance's own status cannot be read from {path}")
        return None
    return local
