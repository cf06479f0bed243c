"""The console's pages in a real browser: nothing runs that should not, figures stay fresh."""

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from nightingale_hub.datasets import Dataset, ensure_dataset, grant
from tests.console import Console, running_console

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage"
).split()
EVIL = "<img src=x onerror=alert(1)><script>alert(2)</script>\u202e.dcm"
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs the chromium program (Debian's)")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def console() -> Iterator[Console]:
    """A console with two people's instances and reads whose paths are hostile."""
    with running_console() as console:
        fill(console)
        yield console


def fill(console: Console) -> None:
    with console.db.write() as conn:
        ensure_dataset(conn, Dataset("dicom", f"CT images {EVIL}", "Scans.", "Be kind.", "/data"))
        grant(conn, "dicom", "*", 1)
    console.launch("alice", state="stopped")
    console.charge(console.launch("alice"))
    console.launch("alice", state="booting", server_name="gpu")
    console.launch("bob")
    event = {
        "stream_id": "i-1:b1",
        "at_us": 1_795_470_000_000_000,
        "action": "read",
        "dataset": "dicom",
        "offset": 131072,
        "length": 131072,
        "duration_us": 210,
        "pid": 77,
        "errno": 0,
    }
    reads = [
        {**event, "path": path, "executable": program}
        for path, program in (("CT/a.dcm", "/usr/bin/python3"), (EVIL, EVIL))
    ]
    console.parts["audit"].answers["reads"] = {"reads": reads, "next": "1.1.x"}
    line = {
        "line_id": 1,
        "instance_id": "i-0d1c5be6a2f4",
        "server_name": EVIL,
        "size": "cpu S, gpu none, disk S",
        "start_us": 1_795_470_000_000_000,
        "end_us": 1_795_473_600_000_000,
        "seconds": 3600,
        "nano_per_hour": 41_000_000,
        "amount_micro": 41_000,
    }
    console.parts["billing"].answers["statement"] = {
        "lines": [line, {**line, "seconds": 11, "amount_micro": 125}],
        "currency": "USD",
        "total_micro": 41_125,
        "running_micro": 1139,
        "pending": 1,
    }


@pytest.fixture
def faults() -> list[str]:
    """What the browser complained about: dialogs, scripts' errors, refused content."""
    return []


@pytest.fixture
def alice(chromium, console, faults) -> Iterator[Page]:
    with person(chromium, console, "alice") as context:
        page = context.new_page()
        watch(page, faults)
        yield page


def person(chromium: Browser, console: Console, name: str, **options: object) -> BrowserContext:
    context = chromium.new_context(**options)  # type: ignore[arg-type]  # options of new_context
    cookie = console.person(name, admin=name == "root")
    context.add_cookies([{"name": "who", "value": cookie["who"], "url": console.hub.url}])
    return context


def watch(page: Page, faults: list[str]) -> None:
    def dismiss(dialog) -> None:
        faults.append(f"dialog {dialog.message}")
        dialog.dismiss()

    page.on("dialog", dismiss)
    page.on("pageerror", lambda error: faults.append(f"error {error}"))
    page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)


PAGES = ("", "statement?month=2026-11", "reads", "stop?instance={instance}", "admin", "nope")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_runs_what_a_person_wrote_or_breaks_its_own_policy(
    chromium, console, faults, scheme
):
    with person(chromium, console, "root", color_scheme=scheme) as context:
        page = context.new_page()
        watch(page, faults)
        for path in PAGES:
            with console.db.read() as conn:
                query = "SELECT id FROM instance WHERE actual = 'running' AND owner = 'alice'"
                instance_id = conn.exec_driver_sql(query).scalar_one()
            page.goto(console.url + path.format(instance=instance_id))
            expect(page.locator("h1")).to_be_visible()
            assert page.locator("main img, main script").count() == 0
            keep(page, f"console-{path.partition('?')[0] or 'home'}-{scheme}")
            ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
    # The last address is a 404, which a browser reports as an error by itself.
    assert [fault for fault in faults if "404" not in fault] == []


def keep(page: Page, name: str) -> None:
    """Write a picture of *page* where NIGHTINGALE_SCREENSHOTS says, if it does."""
    directory = os.environ.get("NIGHTINGALE_SCREENSHOTS")
    if directory:
        page.screenshot(path=f"{directory}/{name}.png", full_page=True)


def test_the_figures_stay_fresh_and_focus_stays_where_it_is(console, alice, faults):
    alice.goto(console.url)
    keep(alice, "console-alice")
    cell = alice.get_by_text("$0.001139", exact=True)
    expect(cell).to_be_visible()
    alice.get_by_role("link", name="Stop…").first.focus()
    focused = alice.evaluate("document.activeElement.id")
    cost = console.parts["billing"].answers["cost"]
    cost["instances"][0]["amount_micro"] = 7777
    try:
        expect(alice.get_by_text("$0.007777", exact=True)).to_be_visible(timeout=6000)
        assert focused.startswith("stop-")
        assert alice.evaluate("document.activeElement.id") == focused
    finally:
        cost["instances"][0]["amount_micro"] = 1139
    assert faults == []


def test_figures_that_are_old_say_so_and_recover(console, alice):
    alice.goto(console.url)
    note = alice.get_by_text("The figures below are old")
    expect(note).to_be_hidden()
    console.hub.is_down = True
    try:
        expect(note).to_be_visible(timeout=8000)
    finally:
        console.hub.is_down = False
    expect(note).to_be_hidden(timeout=8000)


def test_the_theme_that_was_chosen_on_the_hub_is_followed(console, alice):
    alice.goto(console.url)
    alice.evaluate("localStorage.setItem('jupyterhub-bs-theme', 'dark')")
    alice.reload()
    ground = alice.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == "rgb(33, 37, 41)"


def test_without_script_a_stop_takes_two_steps_of_the_keyboard(chromium, console):
    instance_id = console.launch("carol")
    with person(chromium, console, "carol", java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(console.url)
        page.get_by_role("link", name="Stop…").focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading")).to_have_text(f"Stop {instance_id}?")
        page.get_by_role("button", name="Stop it").focus()
        page.keyboard.press("Enter")
        expect(page.get_by_text("stopping", exact=True)).to_be_visible()
        expect(page).to_have_url(console.url)
