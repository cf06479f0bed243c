"""The pages about money in a real browser: light and dark, by keyboard, with nothing of others."""

import base64
from typing import Any

import pytest
from playwright.sync_api import expect

from nightingale_hub.services.console.account import draw_days
from tests.console import Console, running_console
from tests.test_console_browser import CHROMIUM, EVIL, chromium, keep, person, watch

__all__ = ["chromium"]  # a fixture
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs the chromium program (Debian's)")

AT = 1_795_470_000_000_000
PAGES = ("month?month=2026-11", "grants", "budgets", "invoices", "prices", "reconciliation")
LINE = {
    "line_id": 1,
    "kind": "usage",
    "instance_id": "i-0d1c5be6a2f4",
    "owner": EVIL,
    "start_us": AT,
    "end_us": AT + 3_600_000_000,
    "seconds": 3600,
    "amount_micro": 41_005,
    "free_micro": 0,
    "granted_micro": 1_005,
    "owed_micro": 40_000,
    "invoice": None,
}
ANSWERS: dict[str, dict[str, Any]] = {
    "customer.list": {
        "customers": [
            {"id": "org/lab", "name": f"The Lab {EVIL}"},
            {"id": "user/root", "name": "root"},
        ]
    },
    "month.show": {
        "customer": "org/lab",
        "currency": "USD",
        "month": "2026-11",
        "lines": [LINE, {**LINE, "kind": "credit", "amount_micro": -1, "invoice": "INV-000001"}],
        "amount_micro": 41_004,
        "free_micro": 0,
        "granted_micro": 1_005,
        "owed_micro": 39_999,
        "days": [
            {"day": "2026-11-03", "amount_micro": 20_000},
            {"day": "2026-11-23", "amount_micro": 41_004},
        ],
        "free_seconds": 5400,
    },
    "grant.list": {
        "customer": None,
        "grants": [
            {
                "id": "g-1",
                "customer": "org/lab",
                "source": EVIL,
                "scope": {"cloud": "aws"},
                "currency": "EUR",
                "amount_micro": 5_000_000_000,
                "spent_micro": 1,
                "left_micro": 4_999_999_999,
                "start_us": 0,
                "end_us": AT * 2,
                "priority": 100,
            }
        ],
    },
    "budget.list": {
        "customer": None,
        "budgets": [
            {
                "id": "b-1",
                "customer": "org/lab",
                "scope": "user",
                "name": EVIL,
                "period": "month",
                "currency": "USD",
                "limit_micro": 100_000_000,
                "spent_micro": 80_000_000,
                "held_micro": 6_000_000,
                "left_micro": 14_000_000,
                "percent": 86,
                "on_end": "degrade",
                "alerts": [{"percent": 80}, {"percent": 50}],
            }
        ],
        "holds": [
            {
                "instance_id": "i-1",
                "owner": EVIL,
                "nano_per_hour": 41_000_000,
                "pending_micro": 6_000_000,
                "currency": "USD",
                "state": "warned",
                "stop_us": AT,
            }
        ],
    },
    "invoice.list": {
        "customer": None,
        "documents": [
            {
                "number": "CN-000001",
                "kind": "credit_note",
                "corrects": "INV-000001",
                "customer": "org/lab",
                "month": "2026-10",
                "total_minor": 123,
                "currency": "USD",
                "state": "final",
                "issued_us": AT,
                "due_us": None,
                "reference": EVIL,
                "pdf_sha256": "ab" * 32,
            }
        ],
    },
    "price.list": {
        "prices": [
            {
                "cloud": "local",
                "region": "here",
                "sku": "cpu.S",
                "currency": "EUR",
                "nano_per_hour": 41_000_000,
                "effective_us": 0,
                "source": EVIL,
            }
        ]
    },
    "reconcile.list": {
        "days_compared": [
            {
                "cloud": "aws",
                "day": "2026-11-03",
                "currency": "USD",
                "theirs_micro": 200_000,
                "ours_micro": 190_000,
                "drift_micro": 10_000,
                "theirs_s": 7200,
                "ours_s": 6840,
                "orphans": 1,
                "phantoms": 0,
                "drifts": 1,
            }
        ]
    },
    "plan.list": {
        "plans": [
            {
                "name": "standard",
                "effective_us": 0,
                "basis": "ready",
                "price": "shown",
                "minimum_s": 0,
                "markup_ppm": 150_000,
                "bills_storage": False,
            }
        ]
    },
    "invoice.pdf": {
        "name": "INV-000001.pdf",
        "sha256": "ab" * 32,
        "base64": base64.b64encode(b"%PDF-1.3 a page").decode(),
    },
}


@pytest.fixture(scope="module")
def console():
    with running_console() as console:
        for verb, answer in ANSWERS.items():
            console.parts["billing"].answers[f"desk/{verb}"] = answer
        yield console


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_about_money_runs_what_a_person_wrote(chromium, console: Console, scheme):
    faults: list[str] = []
    with person(chromium, console, "root", color_scheme=scheme) as context:
        page = context.new_page()
        watch(page, faults)
        for path in PAGES:
            page.goto(console.url + path)
            expect(page.locator("h1")).to_be_visible()
            assert page.locator("main img, main script, main [style]").count() == 0
            keep(page, f"console-{path.partition('?')[0]}-{scheme}")
            ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
    assert faults == []


def test_by_keyboard_a_customer_is_chosen_and_every_table_is_reached(chromium, console):
    with person(chromium, console, "root", java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(f"{console.url}budgets")
        page.get_by_label("Customer").select_option("org/lab")
        page.get_by_role("button", name="Show").focus()
        page.keyboard.press("Enter")
        expect(page).to_have_url(f"{console.url}budgets?customer=org%2Flab")
        asked = [body for _, path, _, body in console.parts["billing"].asked if "budget" in path]
        assert asked[-1]["fields"] == {"customer": "org/lab"}
        expect(page.get_by_text("86 %").last).to_be_visible()
        for region in ("Budgets", "Holds"):
            page.get_by_role("region", name=region).focus()
            assert page.evaluate("document.activeElement.tabIndex") == 0


def test_the_chart_has_a_bar_for_each_day_and_its_figures_in_words(chromium, console):
    with person(chromium, console, "alice") as context:
        page = context.new_page()
        page.goto(f"{console.url}month?month=2026-11")
        assert page.locator("rect.track").count() == 30
        heights = page.locator("rect.bar").evaluate_all(
            "all => all.map(b => b.height.baseVal.value)"
        )
        assert heights == [20_000 * 120 // 41_004, 120]
        chart = page.get_by_role("img", name="Use of each day of 2026-11")
        expect(chart).to_be_visible()
        said = page.locator("rect.bar title").all_text_contents()
        assert said == ["2026-11-03: $0.02", "2026-11-23: $0.041004"]


def test_a_leap_month_has_29_bars_and_an_empty_one_none_that_is_high():
    chart = draw_days("2028-02", [])
    assert (len(chart["bars"]), chart["most_micro"]) == (29, 0)
    assert all(bar["height"] == 0 for bar in chart["bars"])


def test_files_are_kept_as_billing_froze_them_and_no_cell_begins_a_formula(console):
    with console.browser("alice") as alice:
        pdf = alice.get("invoice.pdf", params={"number": "INV-000001"})
        assert pdf.content == b"%PDF-1.3 a page"
        assert pdf.headers["content-type"] == "application/pdf"
        assert "attachment" in pdf.headers["content-disposition"]
        csv = alice.get("month.csv", params={"month": "2026-11"}).text
        assert csv.count("\n") == 3 and "'-$0.000001" in csv
        assert alice.get("month", params={"month": "2026-13"}).status_code == 400


def test_who_is_no_admin_asks_as_themselves_and_a_silent_billing_is_said(console):
    billing = console.parts["billing"]
    with console.browser("alice") as alice, console.browser("root", admin=True) as root:
        billing.asked.clear()
        alice.get("grants")
        root.get("grants")
        assert {(body["actor"], body["is_admin"]) for _, _, _, body in billing.asked} == {
            ("alice", False),
            ("root", True),
        }
        billing.fault = "down"
        try:
            for path in PAGES:
                assert "billing does not answer" in alice.get(path).text
            assert alice.get("month.csv").status_code == 503
        finally:
            billing.fault = None
