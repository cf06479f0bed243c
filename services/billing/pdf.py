"""A document as PDF: the same content gives the same bytes, on any machine.

Nothing is compressed and every date is the content's own, so that a hash of the file stays true
however often it is made. The built-in fonts know Latin-1; what they lack is written as an escape.
"""

from typing import Any

from fpdf import FPDF
from fpdf.fonts import FontFace

from nightingale_hub.clock import format_duration, format_time, to_datetime
from nightingale_hub.money import format_minor, format_money
from nightingale_hub.text import visible

TITLES = {"invoice": "Invoice", "credit_note": "Credit note", "statement": "Statement"}
GREY = 100
WIDTHS = (62, 34, 24, 30, 30)
HEADINGS = FontFace(emphasis="BOLD", fill_color=235)


def render(content: dict[str, Any]) -> bytes:
    """Return the PDF of a document's *content*."""
    paper = FPDF(format="A4")
    paper.set_compression(False)
    paper.set_creation_date(to_datetime(content["issued_us"]))
    paper.set_title(_latin(f"{TITLES[content['kind']]} {content['number']}"))
    paper.set_author(_latin(content["issuer"]))
    paper.set_auto_page_break(True, margin=18)
    paper.add_page()
    _head(paper, content)
    _lines(paper, content)
    _foot(paper, content)
    return bytes(paper.output())


def _head(paper: FPDF, content: dict[str, Any]) -> None:
    paper.set_font("Helvetica", style="B", size=18)
    _line(paper, f"{TITLES[content['kind']]} {content['number']}", 10)
    paper.set_font("Helvetica", size=10)
    _line(paper, content["issuer"])
    paper.ln(3)
    facts = [
        ("For", content["customer"]),
        ("Period", f"{content['month']}, UTC"),
        ("Issued", format_time(content["issued_us"])),
    ]
    if content.get("due_us"):
        facts.append(("Due", format_time(content["due_us"])[:10]))
    if content.get("corrects"):
        facts += [("Corrects", content["corrects"]), ("Reason", content["reason"])]
    for name, text in facts:
        paper.set_text_color(GREY)
        paper.cell(25, 6, name)
        paper.set_text_color(0)
        paper.multi_cell(0, 6, _latin(text), new_x="LMARGIN", new_y="NEXT")
    paper.ln(3)


def _lines(paper: FPDF, content: dict[str, Any]) -> None:
    paper.set_font("Helvetica", size=8)
    currency = content["currency"]
    with paper.table(
        col_widths=WIDTHS,
        text_align=("LEFT", "LEFT", "RIGHT", "RIGHT", "RIGHT"),
        headings_style=HEADINGS,
        borders_layout="HORIZONTAL_LINES",
    ) as table:
        table.row(("What", "Start, UTC", "Seconds", "Exact", "Amount"))
        for line in content["lines"]:
            table.row(
                (
                    _latin(line["text"]),
                    "" if line["start_us"] is None else format_time(line["start_us"])[:-4],
                    "" if line["seconds"] is None else f"{line['seconds']:,}",
                    format_money(line["amount_micro"], currency),
                    format_minor(line["amount_minor"], currency),
                )
            )


def _foot(paper: FPDF, content: dict[str, Any]) -> None:
    paper.ln(3)
    paper.set_font("Helvetica", style="B", size=12)
    total = format_minor(content["total_minor"], content["currency"])
    paper.cell(0, 8, f"Total {total}", align="R", new_x="LMARGIN", new_y="NEXT")
    paper.set_font("Helvetica", size=9)
    if content.get("free_seconds"):
        paper.multi_cell(
            0,
            5,
            f"Your use paid for {format_duration(content['free_seconds'])} of free use by "
            "non-profit researchers.",
            new_x="LMARGIN",
            new_y="NEXT",
        )
    paper.set_text_color(GREY)
    exact = format_money(content["total_micro"], content["currency"])
    note = (
        "Each amount is exact to a millionth; they are rounded together, by largest remainder, "
        f"so that they sum to the total. Exact sum: {exact}."
    )
    paper.multi_cell(0, 5, note, new_x="LMARGIN", new_y="NEXT")


def _line(paper: FPDF, text: str, height: int = 6) -> None:
    paper.cell(0, height, _latin(text), new_x="LMARGIN", new_y="NEXT")


def _latin(text: str) -> str:
    return visible(text).encode("latin-1", "backslashreplace").decode("latin-1")
