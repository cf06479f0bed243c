"""Elasticsearch's bulk API, and OpenSearch's: `_id` is the document's key, so twice is once.

ref: https://www.elastic.co/docs/api/doc/elasticsearch/operation/operation-bulk
"""

from collections.abc import Sequence

import httpx

from nightingale_hub.errors import Unavailable
from nightingale_hub.services.audit.export.record import Record
from nightingale_hub.services.audit.export.target import (
    AGAIN,
    HttpTarget,
    Refusal,
    parse_object,
    to_json,
)

MOST = 1000
MOST_BYTES = 5 << 20
STORED_ALREADY = 409  # of a `create`: the same _id is there


class Elasticsearch(HttpTarget):
    """One index or data stream."""

    def __init__(self, url: str, index: str, api_key: str | None, ca_file: str | None) -> None:
        """Send to *index* at *url*, the cluster's base."""
        headers = {"Authorization": f"ApiKey {api_key}"} if api_key else {}
        super().__init__(f"{url.rstrip('/')}/_bulk", headers, ca_file)
        self._index = index

    async def send(self, records: Sequence[Record]) -> list[Refusal]:
        """Deliver *records*."""
        pairs = [
            (
                each,
                to_json({"create": {"_index": self._index, "_id": each.key}})
                + "\n"
                + to_json(each.body)
                + "\n",
            )
            for each in records
        ]
        return await self.post_parts(pairs, MOST, MOST_BYTES)

    def wrap(self, texts: Sequence[str]) -> tuple[bytes, str]:
        """Return the lines of the bulk request."""
        return "".join(texts).encode(), "application/x-ndjson"

    def judge(self, answer: httpx.Response, records: Sequence[Record]) -> list[Refusal]:
        """Look at each item: a success as a whole may hold failures."""
        items = parse_object(answer).get("items")
        if not isinstance(items, list) or len(items) != len(records):
            raise Unavailable("the bulk answer does not speak of every document")
        refused = []
        for record, item in zip(records, items, strict=True):
            told = item.get("create", {}) if isinstance(item, dict) else {}
            status = told.get("status", 0)
            if told.get("_id") != record.key or status in AGAIN or status in (0, 401, 403, 404):
                raise Unavailable(f"document {record.key} is not stored: {status}")
            if status >= 400 and status != STORED_ALREADY:
                refused.append(Refusal(record, to_json(told.get("error", status))[:300]))
        return refused
