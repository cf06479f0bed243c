"""A researcher's whole visit in a real browser: login, price, training, reads, stop, statement."""

import json
import os
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright
from sqlalchemy import select

from nightingale_hub.demo.datasets import ensure_datasets, register_datasets, release_datasets
from nightingale_hub.money import format_usd
from nightingale_hub.services.audit.search import Filters, list_rows
from nightingale_hub.tables.billing import entry, line_item
from tests.client import wait_for
from tests.hub import Hub, running_hub
from tests.test_console_browser import CHROMIUM, FLAGS

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs the chromium program (Debian's)")
SCREENSHOTS = os.environ.get("NIGHTINGALE_SCREENSHOTS")
TRAINING = "python -m nightingale_hub.demo.training > trained.json 2> training.log"
LOOK = "nightingale status > status.txt; nightingale cost > cost.txt; nightingale sizes > sizes.txt"


@pytest.fixture
def hub(database_url, tmp_path):
    data = tmp_path / "data"
    try:
        with running_hub(db_url=database_url, users=("ada",)) as hub:
            seed = ensure_datasets(data)
            with hub.database.write() as conn:
                register_datasets(conn, seed, 1)
            yield hub
    finally:
        release_datasets(data)
        shutil.rmtree(data, ignore_errors=True)


@pytest.fixture
def page():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(60_000)
        yield page
        browser.close()


def test_a_researcher_trains_sees_the_reads_and_gets_a_statement_that_adds_up(hub, page):
    log_in(page, hub, "ada")
    accept_terms(page, hub)
    choose_size(page, hub)
    open_terminal(page)
    result = train(page)
    look_around(page)
    run_and_stop_from_terminal(page, hub)
    see_reads(page, hub, result)
    see_statement(page, hub)
    see_as_admin(page, hub)


def log_in(page: Page, hub: Hub, name: str) -> None:
    page.goto(hub.url)
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password").fill(hub.passwords["admin" if name == "admin" else ""])
    shoot(page, f"login-{name}")
    page.get_by_role("button", name="Sign in").click()


def accept_terms(page: Page, hub: Hub) -> None:
    """See that nothing is mounted before its terms are accepted, then accept them."""
    page.goto(hub.url + "hub/spawn")
    waits = page.get_by_text("is granted to you but not mounted")
    expect(waits.first).to_be_visible()
    page.get_by_role("link", name="read and accept its terms").first.click()
    page.wait_for_url("**/services/console/datasets*")
    shoot(page, "terms")
    page.emulate_media(color_scheme="dark")
    shoot(page, "terms-dark")
    page.emulate_media(color_scheme="light")
    for name in ("breast-cancer", "dicom"):
        page.get_by_label(f"I have read the terms of {name}").check()
        page.get_by_role("button", name=f"Accept the terms of {name}").click()
        section = page.get_by_role("region", name=name)
        expect(section).to_contain_text("Yours: mounted when your server starts")


def choose_size(page: Page, hub: Hub) -> None:
    page.goto(hub.url + "hub/spawn")
    page.locator("input[name=cpu][value=M]").check()
    expect(page.locator("#nightingale-total")).to_have_text("$0.041/h")
    page.locator("input[name=cpu][value=S]").check()
    expect(page.locator("#nightingale-total")).to_have_text("$0.021/h")
    expect(page.get_by_text("Breast Cancer Wisconsin")).to_be_visible()
    shoot(page, "spawn")
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#progress-log")).to_contain_text("terraform_data.instance")
    shoot(page, "progress")
    page.wait_for_url("**/user/ada/lab**")


def open_terminal(page: Page) -> None:
    page.locator(".jp-LauncherCard", has_text="Terminal").click()
    page.locator(".jp-Terminal .xterm-helper-textarea").wait_for(state="attached")
    page.locator(".jp-Terminal").click()
    for _ in range(20):  # keys are lost until the terminal is connected
        page.keyboard.type("echo done > ready.txt\n", delay=2)
        page.wait_for_timeout(500)
        if read_file(page, "ready.txt"):
            return
    raise AssertionError("the terminal took no command")


def run(page: Page, command: str, done: str) -> None:
    """Type *command* into the terminal and wait until the file *done* says that it ended."""
    page.keyboard.type(f"{command}; echo done > {done}\n", delay=2)
    wait_for(lambda: read_file(page, done), f"{command} ended", timeout_s=120)


def read_file(page: Page, name: str) -> str:
    """Return the file *name* of the researcher's home as the server gives it, or nothing."""
    script = """async name => {
        const headers = {"X-XSRFToken": document.cookie.match(/_xsrf=([^;]+)/)[1]};
        const address = `/user/ada/api/contents/${name}?content=1&type=file&format=text`;
        const answer = await fetch(address, {headers});
        return answer.ok ? (await answer.json()).content : "";
    }"""
    text: str = page.evaluate(script, name)
    return text


def train(page: Page) -> dict[str, object]:
    run(page, TRAINING, "trained.txt")
    told = read_file(page, "trained.json")
    assert told, read_file(page, "training.log")
    result: dict[str, object] = json.loads(told)
    shoot(page, "lab")
    return result


def look_around(page: Page) -> None:
    run(page, LOOK, "looked.txt")
    assert "cpu S, gpu none, disk S" in read_file(page, "status.txt")
    assert "$0.021/h" in read_file(page, "cost.txt")
    assert "$0.04/h" in read_file(page, "sizes.txt")
    page.keyboard.type("clear; ls datasets; nightingale status; nightingale cost\n")
    page.wait_for_timeout(2500)  # only for the picture
    shoot(page, "terminal")


def run_and_stop_from_terminal(page: Page, hub: Hub) -> None:
    page.keyboard.type("nightingale run --then stop -- sh -c 'cp trained.json kept.json'\n")
    row = hub.wait_state("ada", "stopped")
    assert row.gone_us > row.stop_accepted_us > row.ready_us


def see_reads(page: Page, hub: Hub, result: dict[str, object]) -> None:
    sizes = result["sizes"]
    assert isinstance(sizes, dict)
    with hub.database.read() as conn:
        logged: dict[str, int] = {}
        events = list_rows(conn, Filters(), 100_000, None)
    for event in events:
        if event["action"] == "read":
            path = f"{event['dataset']}/{event['path']}"
            logged[path] = logged.get(path, 0) + event["length"]
    assert logged == sizes
    page.goto(hub.url + "services/console/reads?dataset=breast-cancer")
    expect(page.get_by_role("cell", name="wdbc.csv").first).to_be_visible()
    shoot(page, "reads")


def see_statement(page: Page, hub: Hub) -> None:
    with hub.database.read() as conn:
        line = conn.execute(select(line_item)).one()
        owed = conn.execute(
            select(entry.c.amount_micro).where(entry.c.account == "accrued:user/ada")
        ).scalar_one()
    row = hub.list_instances("ada")[0]
    assert line.seconds == -(-(row.stop_accepted_us - row.ready_us) // 1_000_000)
    assert owed == line.amount_micro
    page.goto(hub.url + "services/console/statement")
    expect(page.locator("main")).to_contain_text(format_usd(owed))
    expect(page.locator("main")).to_contain_text(f"{line.seconds}")
    shoot(page, "statement")
    page.goto(hub.url + "services/console/")
    expect(page.get_by_role("row", name=row.id)).to_contain_text(format_usd(owed))
    shoot(page, "console")
    page.emulate_media(color_scheme="dark")
    shoot(page, "console-dark")
    page.emulate_media(color_scheme="light")


def see_as_admin(page: Page, hub: Hub) -> None:
    page.goto(hub.url + "services/console/admin")
    expect(page.get_by_text("404")).to_be_visible()
    page.context.clear_cookies()
    log_in(page, hub, "admin")
    page.goto(hub.url + "services/console/admin")
    expect(page.get_by_role("cell", name="ada").first).to_be_visible()
    shoot(page, "admin")


def shoot(page: Page, name: str) -> None:
    if SCREENSHOTS:
        page.screenshot(path=Path(SCREENSHOTS) / f"journey-{name}.png")
