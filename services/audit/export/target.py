"""A target: where documents go, and what becomes of them there.

The law: `send` returns only when the receiver has said of each document that it has it, or that it
never will take it; anything else raises `Unavailable`, and everything is sent again. So a document
arrives at least once, and its key tells a receiver which ones came twice.
"""

import json
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx

from nightingale_hub.errors import Unavailable
from nightingale_hub.services.audit.export.record import Record

TIMEOUT_S = 30.0
AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class Refusal:
    """A document that the receiver will never take, and why."""

    record: Record
    why: str


class Target(Protocol):
    """What an exporter needs of a target."""

    async def send(self, records: Sequence[Record]) -> list[Refusal]:
        """Deliver *records*, and return those that were refused for ever; else `Unavailable`."""

    async def close(self) -> None:
        """Let go of connections and files."""


def to_json(value: object) -> str:
    """Return *value* as one line of ASCII JSON: nothing in it moves a terminal or ends a line."""
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"))


def cut(pairs: Sequence[tuple[Record, str]], most: int, most_bytes: int) -> Iterator[list[int]]:
    """Yield the indices of *pairs* in groups of at most *most* texts and *most_bytes* together."""
    group: list[int] = []
    size = 0
    for index, (_, text) in enumerate(pairs):
        if group and (len(group) == most or size + len(text) > most_bytes):
            yield group
            group, size = [], 0
        group.append(index)
        size += len(text) + 2
    if group:
        yield group


class HttpTarget:
    """A target that takes documents by POST."""

    def __init__(self, url: str, headers: dict[str, str], ca_file: str | None = None) -> None:
        """Post to *url*, trusting the system's certificates or those in *ca_file*."""
        context = ssl.create_default_context(cafile=ca_file)
        self.url = url
        self._http = httpx.AsyncClient(
            headers=headers, timeout=TIMEOUT_S, verify=context, trust_env=False
        )

    async def close(self) -> None:
        """Drop the connections."""
        await self._http.aclose()

    async def post(self, body: bytes, content_type: str) -> httpx.Response:
        """Return the answer to *body*; raises `Unavailable` unless it is final."""
        try:
            answer = await self._http.post(
                self.url, content=body, headers={"Content-Type": content_type}
            )
        except httpx.HTTPError as error:
            raise Unavailable(f"{self._name} does not answer: {type(error).__name__}") from error
        if answer.status_code in AGAIN or answer.status_code in (401, 403, 404):
            # The second kind is for an operator to mend, not a reason to lose anything.
            raise Unavailable(f"{self._name} answered {answer.status_code}")
        return answer

    async def post_parts(
        self, pairs: Sequence[tuple[Record, str]], most: int, most_bytes: int
    ) -> list[Refusal]:
        """Post *pairs* in groups; a group that is refused is halved until the culprit is alone."""
        refused: list[Refusal] = []
        for group in cut(pairs, most, most_bytes):
            refused += await self._post_group([pairs[index] for index in group])
        return refused

    async def _post_group(self, pairs: Sequence[tuple[Record, str]]) -> list[Refusal]:
        answer = await self.post(*self.wrap([text for _, text in pairs]))
        if answer.is_success:
            return self.judge(answer, [record for record, _ in pairs])
        if len(pairs) > 1:
            half = len(pairs) // 2
            return [*await self._post_group(pairs[:half]), *await self._post_group(pairs[half:])]
        return [Refusal(pairs[0][0], f"answered {answer.status_code}: {answer.text[:200]}")]

    def wrap(self, texts: Sequence[str]) -> tuple[bytes, str]:
        """Return the body that carries *texts*, and its content type."""
        raise NotImplementedError

    def judge(self, answer: httpx.Response, records: Sequence[Record]) -> list[Refusal]:
        """Return what of *records* a success refused after all; raises `Unavailable` to retry."""
        return []

    @property
    def _name(self) -> str:
        return httpx.URL(self.url).host


def read_secret(path: str) -> str:
    """Return the secret in the file at *path*, without what surrounds it."""
    return Path(path).read_text(encoding="utf-8").strip()


def parse_object(answer: httpx.Response) -> dict[str, Any]:
    """Return the JSON object of *answer*; raises `Unavailable` for anything else."""
    try:
        body = answer.json()
    except ValueError as error:
        raise Unavailable("the receiver's answer is not JSON") from error
    if not isinstance(body, dict):
        raise Unavailable("the receiver's answer is no JSON object")
    return body
