"""Documents add up to the last unit, go one way, and are the same bytes whenever they are made."""

import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightingale_hub.errors import BadInput, Conflict
from nightingale_hub.money import DECIMALS, format_minor, format_money, format_rate, round_to_minor
from nightingale_hub.services.billing.documents import (
    EDGES,
    Head,
    Line,
    State,
    check_credit,
    edge,
    share_free_seconds,
    write_content,
)
from nightingale_hub.services.billing.pdf import render

HEAD = Head("invoice", "Nightingale", "Öz <b> 李", "2026-11", "USD", 1_795_470_000_000_000)
LINES = [Line("i-1, cpu S", 41_005, 1_795_470_000_000_000, 3600), Line("i-2 \x1b[31m", 5_000)]


@given(st.lists(st.integers(-(10**12), 10**12), max_size=30), st.sampled_from(sorted(DECIMALS)))
def test_lines_in_smallest_units_sum_to_the_rounded_total(amounts, currency):
    unit = 10 ** (6 - DECIMALS[currency])
    rounded = round_to_minor(amounts, currency)
    assert 2 * abs(sum(rounded) * unit - sum(amounts)) <= unit
    assert all(
        abs(minor * unit - amount) < unit for minor, amount in zip(rounded, amounts, strict=True)
    )


@given(st.lists(st.builds(Line, st.text(max_size=9), st.integers(-(10**9), 10**9)), max_size=9))
@settings(max_examples=40, deadline=None)
def test_a_document_sums_to_its_total_and_its_bytes_never_differ(lines):
    content = write_content(HEAD, "INV-000001", lines)
    assert sum(line["amount_minor"] for line in content["lines"]) == content["total_minor"]
    assert sum(line["amount_micro"] for line in content["lines"]) == content["total_micro"]
    assert render(content) == render(content)


def test_another_process_makes_the_same_bytes_of_the_same_document():
    code = (
        "import sys; from tests.test_documents import HEAD, LINES, render, write_content; "
        "sys.stdout.buffer.write(render(write_content(HEAD, 'INV-000001', LINES, 7200)))"
    )
    made = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "TZ": zone},
            capture_output=True,
            check=True,
        ).stdout
        for seed, zone in (("1", "UTC"), ("2", "Asia/Tokyo"))
    ]
    assert made[0] == made[1] == render(write_content(HEAD, "INV-000001", LINES, 7200))
    assert made[0].startswith(b"%PDF-")


def test_a_pdf_says_what_the_document_says_and_nothing_moves_its_reader():
    text = render(write_content(HEAD, "INV-000001", LINES, 7200))
    for said in (b"INV-000001", b"0.05 USD", b"$0.041005", b"\\\\x1b[31m", b"2 h 0 min"):
        assert said in text, said
    assert b"\x1b" not in text


@pytest.mark.parametrize("before", State)
@pytest.mark.parametrize("after", State)
def test_a_document_goes_along_its_edges_alone(before, after):
    if (before, after) in EDGES.values():
        assert edge(before, after) == f"{before}_to_{after}"
    else:
        with pytest.raises(Conflict, match=f"is {before}"):
            edge(before, after)


@pytest.mark.parametrize("amount", [0, -1, 61])
def test_a_credit_note_takes_back_no_more_than_is_left(amount):
    check_credit(100, 40, 60, "USD")
    with pytest.raises(BadInput, match=r"0\.60 USD"):
        check_credit(100, 40, amount, "USD")


def test_money_is_written_exactly_in_any_currency():
    assert format_money(510_000, "EUR") == "0.51 EUR"
    assert format_money(-1_500_000, "JPY") == "-1.5 JPY"
    assert format_money(2_000_000, "JPY") == "2 JPY"
    assert format_money(41_005, "USD") == "$0.041005"
    assert (format_rate(41_000_000), format_rate(41_000_000, "EUR")) == ("$0.041/h", "0.041 EUR/h")
    assert (format_minor(-1234, "EUR"), format_minor(1234, "JPY")) == ("-12.34 EUR", "1,234 JPY")


def test_free_hours_are_what_the_contribution_could_pay_for():
    assert share_free_seconds(500_000, 1_000_000, 7200) == 3600
    assert share_free_seconds(500_000, 0, 0) == share_free_seconds(-1, 1, 1) == 0
