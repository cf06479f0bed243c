"""What the reader's processes read, as audit has it: a searchable page and a CSV."""

import csv
import errno
import io
from typing import Any
from urllib.parse import urlencode

from nightingale_hub.clock import format_time
from nightingale_hub.errors import BadInput, Unavailable
from nightingale_hub.services.console.page import Page
from nightingale_hub.text import csv_cell

FILTERS = ("dataset", "path", "instance")
PAGE_ROWS = 100
CSV_PAGE_ROWS = 1000
CSV_ROWS = 10_000
HEADER = (
    "when when_us action dataset path offset length duration_us executable pid uid result instance"
).split()

PARQUET = (
    "stream_id seq at_us owner action dataset path offset length duration_us file_id uid pid "
    "executable errno"
).split()
TEXTS = {"stream_id", "owner", "action", "dataset", "path", "executable"}


class Reads(Page):
    """The page."""

    def filters(self) -> dict[str, str]:
        """Return the filters of the URL that are set; raises `BadInput` for a huge one."""
        given = {name: self.get_query_argument(name, "") for name in (*FILTERS, "before")}
        for name, text in given.items():
            if len(text) > 4096:
                raise BadInput(f"{name} is too long to search for")
        return {name: text for name, text in given.items() if text}

    async def fetch(self, filters: dict[str, str], limit: int) -> dict[str, Any]:
        """Return audit's page of the reader's own reads; raises `Unavailable` without audit."""
        owner = self.person.name
        return await self.parts.get("audit", "reads", owner=owner, limit=limit, **filters)

    async def get(self) -> None:
        """Show the newest reads that `?dataset=&path=&instance=&before=` select."""
        filters = self.filters()
        try:
            found, why = await self.fetch(filters, PAGE_ROWS), ""
        except Unavailable as error:
            found, why = {"reads": None, "next": None}, str(error)
        chosen = {name: text for name, text in filters.items() if name != "before"}
        following = found["next"]
        self.show(
            "reads.html",
            filters={name: filters.get(name, "") for name in FILTERS},
            reads=found["reads"],
            why=why,
            query=urlencode(filters),
            first="before" not in filters,
            first_query=urlencode(chosen),
            next_query=following and urlencode({**chosen, "before": following}),
            csv_rows=CSV_ROWS,
        )


class ReadsCsv(Reads):
    """The same for a spreadsheet, up to 10,000 rows, complete or an error."""

    async def get(self) -> None:
        """Reply what the page's filters select; raises `Unavailable` rather than a part of it."""
        reads, is_more = await self.fetch_all(self.filters())
        file = io.StringIO()
        writer = csv.writer(file)
        writer.writerow(HEADER)
        writer.writerows(_format_row(each) for each in reads)
        if is_more:
            writer.writerow([f"more rows follow these {len(reads)}: narrow the search"])
        self.set_header("Content-Type", "text/csv; charset=utf-8")
        self.set_header("Content-Disposition", 'attachment; filename="reads.csv"')
        self.finish(file.getvalue())

    async def fetch_all(self, filters: dict[str, str]) -> tuple[list[dict[str, Any]], bool]:
        """Return the rows of a file, newest first, and whether there are more."""
        reads: list[dict[str, Any]] = []
        while True:
            found = await self.fetch(filters, CSV_PAGE_ROWS)
            reads += found["reads"]
            if not found["next"] or not found["reads"] or len(reads) >= CSV_ROWS:
                return reads, bool(found["next"])
            filters["before"] = str(found["next"])


class ReadsParquet(ReadsCsv):
    """The same as Parquet, with every column as audit has it."""

    async def get(self) -> None:
        """Reply the rows; raises `BadInput` when there are more than a file may have."""
        import pyarrow as arrow
        from pyarrow import parquet

        reads, is_more = await self.fetch_all(self.filters())
        if is_more:
            raise BadInput(f"more than {len(reads):,} rows match; narrow the search")
        names = PARQUET
        kinds = [arrow.string() if name in TEXTS else arrow.int64() for name in names]
        table = arrow.table(
            {name: [each[name] for each in reads] for name in names},
            schema=arrow.schema(zip(names, kinds, strict=True)),
        )
        file = io.BytesIO()
        parquet.write_table(table, file, compression="zstd")
        self.set_header("Content-Type", "application/vnd.apache.parquet")
        self.set_header("Content-Disposition", 'attachment; filename="reads.parquet"')
        self.finish(file.getvalue())


def format_result(number: int) -> str:
    """Return how a read ended: `ok`, or the errno's name."""
    return "ok" if number == 0 else errno.errorcode.get(number, f"errno {number}")


def _format_row(read: dict[str, Any]) -> list[str | int]:
    return [
        format_time(read["at_us"]),
        read["at_us"],
        csv_cell(read["action"]),
        csv_cell(read["dataset"]),
        csv_cell(read["path"]),
        read["offset"],
        read["length"],
        read["duration_us"],
        csv_cell(read["executable"]),
        read["pid"],
        read["uid"],
        format_result(read["errno"]),
        csv_cell(read["stream_id"].partition(":")[0]),
    ]
