"""JupyterLab's status bar and panel in a real browser, and what the extension lets through."""

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect, sync_playwright
from sqlalchemy import func, select
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

from nightingale_hub.clock import now_us
from nightingale_hub.money import format_rate
from nightingale_hub.notices import Kind, add_notice
from nightingale_hub.tables.decoys import download
from tests.client import SMALL, Client, wait_for
from tests.hub import Hub, running_hub
from tests.test_console_browser import CHROMIUM, FLAGS

ROOT = Path(__file__).parent.parent
SCREENSHOTS = os.environ.get("NIGHTINGALE_SCREENSHOTS")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs the chromium program (Debian's)")


@pytest.fixture(scope="module")
def hub():
    with running_hub(users=("ada",)) as hub:
        yield hub


@pytest.fixture
def running(hub):
    """The hub, with ada's server running."""
    ada = hub.client("ada")
    if hub.find_instance("ada") is None:
        ada.start(SMALL)
    ada.wait_ready()
    return hub


def ask(hub: Hub, method: str, path: str, **content):
    """Ask ada's server as a program with ada's own token does."""
    ada = hub.client("ada")
    headers = {"Authorization": f"Bearer {ada.token}"}
    return ada.http.request(method, f"user/ada/nightingale/api/{path}", headers=headers, **content)


@pytest.fixture
def page():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(60_000)
        yield page
        browser.close()


def shoot(page: Page, name: str) -> None:
    if SCREENSHOTS:
        Path(SCREENSHOTS).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(SCREENSHOTS) / f"{name}.png")


def test_the_built_files_are_those_of_the_sources():
    done = subprocess.run(
        [sys.executable, ROOT / "labextension" / "build.py", "--check"], capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()


def test_the_extension_passes_the_status_on_and_no_token(running):
    answer = ask(running, "GET", "status")
    status = answer.json()
    assert status["instance"]["id"] == running.find_instance("ada").id
    assert status["local"]["isolation"] is not None
    assert {"lines", "total_micro"} <= set(ask(running, "GET", "cost").json())
    assert {each["resource"] for each in ask(running, "GET", "sizes").json()["sizes"]} == set(SMALL)
    assert "token" not in answer.text.lower()


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "reads"), ("GET", "stop"), ("POST", "status"), ("POST", "notices")]
)
def test_what_is_not_for_the_browser_is_not_passed_on(running, method, path):
    assert ask(running, method, path, content=b"{}").status_code == 404


def test_only_what_a_question_needs_of_a_query_is_passed_on(running):
    plan = ask(running, "GET", "resize?cpu=M&server=other&owner=eve").json()["plan"]
    assert (plan["now"]["cpu"], plan["then"]["cpu"]) == ("S", "M")
    refused = ask(running, "POST", "extend?for_s=1")
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "bad_input")


@pytest.mark.parametrize("body", [b"{", b"[]", b'"' + b"x" * 20_000 + b'"'])
def test_a_body_that_is_none_stops_nothing(running, body):
    answer = ask(running, "POST", "stop", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "bad_input"
    assert running.find_instance("ada").wanted == "running"


def test_nobody_without_a_session_or_from_another_site_is_answered(running):
    ada = running.client("ada")
    url = f"{running.url}user/ada/nightingale/api/"
    anonymous = httpx.get(f"{url}status", trust_env=False)
    assert anonymous.status_code == 403 and "Forbidden" in anonymous.text
    ada.http.get("user/ada/lab")  # a session in cookies, as a browser has it
    forged = ada.http.post(f"{url}stop", json={}, headers={"Origin": "https://evil.example"})
    assert forged.status_code == 403
    assert running.find_instance("ada").wanted == "running"


def test_what_ada_downloads_is_told_to_the_hub_by_file_and_by_kernel(running):
    ada = running.client("ada")
    ada.http.headers["Authorization"] = f"Bearer {ada.token}"
    text = "x" * 300_000
    made = {"type": "file", "format": "text", "content": text}
    assert ada.http.put("user/ada/api/contents/out.txt", json=made).status_code == 201
    assert len(ada.http.get("user/ada/files/out.txt").content) == len(text)
    asyncio.run(print_in_a_kernel(running, ada, 200_000))
    wait_for(lambda: sum_told(running, "file", "out.txt") >= 300_000, "the file to be told")
    told = wait_for(lambda: sum_told(running, "output", "kernels/%"), "the output to be told")
    assert told >= 200_000


def sum_told(running: Hub, kind: str, name: str) -> int:
    with running.database.read() as conn:
        query = select(func.sum(download.c.size)).where(
            download.c.kind == kind, download.c.name.like(name), download.c.owner == "ada"
        )
        return int(conn.execute(query).scalar_one() or 0)


async def print_in_a_kernel(running: Hub, ada: Client, size: int) -> None:
    kernel = ada.http.post("user/ada/api/kernels", json={}).json()["id"]
    url = f"{running.url}user/ada/api/kernels/{kernel}/channels".replace("http", "ws", 1)
    headers = {"Authorization": f"Bearer {ada.token}"}
    peer = await websocket_connect(HTTPRequest(url, headers=headers))
    message = {
        "header": {"msg_id": "1", "msg_type": "execute_request", "session": "s", "version": "5.3"},
        "parent_header": {}, "metadata": {}, "channel": "shell",
        "content": {"code": f"print('y' * {size})", "silent": False},
    }  # fmt: skip
    await peer.write_message(json.dumps(message))
    async with asyncio.timeout(60):
        while "y" * size not in str(await peer.read_message()):
            pass
    peer.close()
    async with asyncio.timeout(60):  # the loop ends with us, so the goodbye is waited for
        while await peer.read_message() is not None:
            pass
    assert ada.http.delete(f"user/ada/api/kernels/{kernel}").status_code == 204


@needs_browser
def test_lab_shows_what_runs_and_what_it_costs_and_stops_it(running, page):
    row = running.find_instance("ada")
    log_in(page, running)
    bar = page.locator(".jp-nightingale-Bar button")
    rate = re.escape(format_rate(row.nano_usd_per_hour))
    expect(bar).to_have_text(re.compile(rf"^cpu S · .*\d+ s · .*\$.* · {rate}$"))
    before = bar.text_content()
    expect(bar).not_to_have_text(before or "")
    bar.click()
    panel = page.locator(".jp-nightingale-Panel")
    expect(panel).to_contain_text(row.id)
    expect(panel).to_contain_text("Every read of a dataset is recorded")
    expect(panel.get_by_role("link", name="What was read")).to_have_attribute(
        "href", "/services/console/reads"
    )
    shoot(page, "lab-panel")

    panel.get_by_role("button", name="Keep 1 h").click()
    expect(page.get_by_text("not stopped as idle for an hour")).to_be_visible()
    resize(page, panel)
    expect(bar).to_have_text(re.compile("^cpu M · "))
    assert running.find_instance("ada").cpu == "M"

    with running.database.write() as conn:
        add_notice(conn, "ada", Kind.BUDGET, "80 % of it", "<b>spent</b>", "told", now_us())
    told = page.get_by_text("80 % of it: <b>spent</b>")
    expect(told).to_be_visible(timeout=30_000)  # it is asked for every ten seconds
    shoot(page, "lab-notice")

    note = panel.locator(".jp-nightingale-note")

    def is_called_old() -> bool:
        # The hub's check may start it again before two answers have failed to come.
        with contextlib.suppress(AssertionError):
            running.kill_service("console")
        return "as of" in str(bar.text_content()) and "console does not" in str(note.text_content())

    wait_for(is_called_old, "the figures are called old")
    shoot(page, "lab-no-hub")
    expect(bar).not_to_contain_text("as of", timeout=90_000)  # the hub starts it again

    panel.get_by_role("button", name="Stop…").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Cost so far: $")
    dialog.get_by_role("button", name="Cancel").click()
    assert running.find_instance("ada").wanted == "running"
    panel.get_by_role("button", name="Stop…").click()
    shoot(page, "lab-stop")
    page.get_by_role("dialog").get_by_role("button", name="Stop it").click()
    page.wait_for_url("**/services/console/")
    running.wait_state("ada", "stopped")


def resize(page: Page, panel: Locator) -> None:
    panel.get_by_role("button", name="Resize…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("cpu").select_option("M")
    expect(dialog).to_contain_text("$0.041/h, more by $0.02/h")
    shoot(page, "lab-resize")
    dialog.get_by_role("button", name="Resize it").click()


def log_in(page: Page, hub: Hub) -> None:
    page.goto(hub.url)
    page.get_by_label("Username").fill("ada")
    page.get_by_label("Password").fill(hub.passwords[""])
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/user/ada/lab**")
