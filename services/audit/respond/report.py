"""The access record of one dataset for one month: who read which file, how often and how much.

The CSV has a line for each person and file; the PDF sums it up, names the findings, and carries the
hash of the CSV, so that the two belong together. The same record gives the same bytes.
"""

import csv
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fpdf import FPDF
from sqlalchemy import Connection, Row, select

from nightingale_hub.clock import format_time, month_bounds_us, to_datetime
from nightingale_hub.errors import BadInput
from nightingale_hub.findings import parse_evidence
from nightingale_hub.services.audit.history import History
from nightingale_hub.services.audit.search import Filters
from nightingale_hub.tables.incidents import review
from nightingale_hub.tables.log import finding
from nightingale_hub.text import csv_cell, visible

MOST_ROWS = 500_000
HEADER = "user path opens reads bytes refused first last".split()
WIDTHS = (52, 26, 26, 38, 38)


@dataclass(frozen=True)
class Line:
    """What one person read of one file in a month; `bytes` counts reads only."""

    owner: str
    path: str
    opens: int
    reads: int
    bytes: int
    refused: int
    first_us: int
    last_us: int


def gather(conn: Connection, history: History, dataset: str, month: str) -> list[Line]:
    """Return a line for each person and file of *dataset* in *month* (`2026-11`), by name.

    Raises `BadInput` for no month, and for more lines than a report holds.
    """
    try:
        since_us, until_us = month_bounds_us(month)
    except ValueError as error:
        raise BadInput(f"month must be YYYY-MM, not {month[:20]!r}") from error
    filters = Filters(dataset=dataset, since_us=since_us, until_us=until_us)
    rows = history.list_record(conn, filters)
    if len(rows) > MOST_ROWS:
        raise BadInput(f"more than {MOST_ROWS:,} lines; export the reads of each person instead")
    return [Line(**row) for row in rows]


def list_findings(conn: Connection, dataset: str, month: str) -> list[tuple[Row[Any], str, str]]:
    """Return the findings about *dataset* in *month*, each with its reason and its verdict."""
    since_us, until_us = month_bounds_us(month)
    query = (
        select(finding)
        .where(finding.c.at_us >= since_us, finding.c.at_us < until_us)
        .order_by(finding.c.id)
    )
    found = []
    for row in conn.execute(query).all():
        evidence = parse_evidence(row)
        if evidence.get("dataset") != dataset:
            continue
        last = conn.execute(
            select(review.c.verdict)
            .where(review.c.finding_id == row.id)
            .order_by(review.c.id.desc())
            .limit(1)
        ).scalar()
        found.append((row, str(evidence.get("reason", "")), last or "not reviewed yet"))
    return found


def format_csv(rows: Sequence[Line]) -> str:
    """Return the record as CSV, in which no name begins a formula."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(HEADER)
    for row in rows:
        counts = (row.opens, row.reads, row.bytes, row.refused)
        times = (format_time(row.first_us), format_time(row.last_us))
        writer.writerow([csv_cell(row.owner), csv_cell(row.path), *counts, *times])
    return file.getvalue()


def format_pdf(
    dataset: str,
    month: str,
    rows: Sequence[Line],
    findings: Sequence[tuple[Row[Any], str, str]],
    csv_text: str,
) -> bytes:
    """Return the record as PDF: people with their sums, findings, and the hash of the CSV."""
    _, until_us = month_bounds_us(month)
    paper = FPDF(format="A4")
    paper.set_compression(False)
    paper.set_creation_date(to_datetime(until_us))
    paper.set_title(_latin(f"Access record of {dataset}, {month}"))
    paper.set_auto_page_break(True, margin=18)
    paper.add_page()
    paper.set_font("Helvetica", style="B", size=16)
    _line(paper, f"Access record of {dataset}, {month}")
    paper.set_font("Helvetica", size=10)
    _line(paper, f"{len(rows):,} lines, one for each person and file. Times are UTC.")
    _line(paper, f"SHA-256 of the CSV: {hashlib.sha256(csv_text.encode()).hexdigest()}")
    paper.ln(4)
    _table(paper, ["User", "Files", "Reads", "Bytes", "Last"], _sum_people(rows))
    paper.ln(4)
    paper.set_font("Helvetica", style="B", size=12)
    _line(paper, f"Findings: {len(findings)}")
    paper.set_font("Helvetica", size=10)
    for row, reason, verdict in findings:
        _line(paper, f"{row.id}  {row.kind} {row.severity}, {format_time(row.at_us)}: {verdict}")
        _line(paper, f"{row.subject}: {reason}")
    return bytes(paper.output())


def _sum_people(rows: Sequence[Line]) -> list[list[str]]:
    people: dict[str, list[int]] = {}
    for row in rows:
        sums = people.setdefault(row.owner, [0, 0, 0, 0])
        sums[0] += 1
        sums[1] += row.reads
        sums[2] += row.bytes
        sums[3] = max(sums[3], row.last_us)
    return [
        [owner, f"{files:,}", f"{reads:,}", f"{size:,}", format_time(last_us)[:16]]
        for owner, (files, reads, size, last_us) in people.items()
    ]


def _table(paper: FPDF, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    with paper.table(col_widths=WIDTHS, text_align="LEFT", line_height=6) as table:
        for each in (heads, *rows):
            line = table.row()
            for text in each:
                line.cell(_latin(text))


def _line(paper: FPDF, text: str) -> None:
    paper.multi_cell(0, 6, _latin(text), new_x="LMARGIN", new_y="NEXT")


def _latin(text: str) -> str:
    return visible(text).encode("latin-1", "backslashreplace").decode("latin-1")
