"""The hub as its instances see it: one POST, with the little that Python itself brings."""

import http.client
import json
import urllib.error
import urllib.request
from typing import Any

from nightingale_hub.errors import BadInput, Unavailable

ANSWER_LIMIT = 1 << 20


def post(
    url: str, payload: dict[str, Any], credential: str = "", timeout_s: float = 10.0
) -> tuple[int, dict[str, Any]]:
    """Send *payload* to *url* and return the answer's HTTP status and JSON object.

    An answer that is no JSON object reads as an empty one. Raises `Unavailable` when there is no
    answer within *timeout_s*.
    """
    if not url.startswith(("http://", "https://")):
        raise BadInput(f"hub URL {url!r} is neither http nor https; see public_url")
    headers = {"Content-Type": "application/json"}
    if credential:
        headers["Authorization"] = f"Bearer {credential}"
    request = urllib.request.Request(  # noqa: S310 - the scheme was just checked
        url, json.dumps(payload).encode(), headers
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:  # noqa: S310 - as above
            return answer.status, _parse(answer.read(ANSWER_LIMIT))
    except urllib.error.HTTPError as error:
        with error:
            return error.code, _parse(error.read(ANSWER_LIMIT))
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(f"the hub at {url} does not answer: {error}") from error


def get_message(answer: dict[str, Any]) -> str:
    """Return what the hub says went wrong, or an empty string."""
    error = answer.get("error")
    return str(error.get("message", "")) if isinstance(error, dict) else ""


def _parse(text: bytes) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}
