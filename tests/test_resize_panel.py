"""`ResizePanel`: a real console behind it, and the widgets as a person sees and presses them."""

import json

import pytest

from nightingale_hub.instance import runs
from nightingale_hub.labextension import ResizePanel
from nightingale_hub.resizing import Phase
from tests.client import wait_for
from tests.test_cli import alice
from tests.test_cli_change import resizing

__all__ = ["alice", "resizing"]  # fixtures


@pytest.fixture
def here(console, alice, monkeypatch, tmp_path):
    for name in ("NIGHTINGALE_CONSOLE_URL", "JUPYTERHUB_API_TOKEN"):
        monkeypatch.setenv(name, alice[name])
    monkeypatch.setenv("HOME", str(tmp_path))
    with console.db.write() as conn:
        for sku, nano in (("cpu.S", 20), ("cpu.M", 40), ("gpu.none", 0), ("disk.S", 1)):
            conn.exec_driver_sql(
                "INSERT OR IGNORE INTO price (cloud, region, sku, nano_per_hour, effective_us, "
                f"source) VALUES ('local', 'here', '{sku}', {nano * 1_000_000}, 0, 'panel')"
            )
    return console


def texts(widget):
    """Return every text that *widget* shows, in order."""
    if getattr(widget.layout, "display", None) == "none":
        return []
    own = [getattr(widget, name, "") for name in ("description", "value")]
    shown = [text for text in own if isinstance(text, str) and text]
    return shown + [text for child in getattr(widget, "children", ()) for text in texts(child)]


def says(panel, text):
    return any(text in each for each in texts(panel))


def press(panel, name):
    [button] = [
        each
        for each in _walk(panel)
        if getattr(each, "description", None) == name and each.layout.display != "none"
    ]
    assert not button.disabled
    button.click()


def _walk(widget):
    yield widget
    for child in getattr(widget, "children", ()):
        yield from _walk(child)


def choose(panel, resource, letter):
    panel._buttons[resource, letter].click()


def test_each_size_has_its_price_its_difference_or_why_it_cannot_be_had(here):
    panel = ResizePanel()
    assert says(panel, "1 CPU · $0.02/h · yours")
    assert says(panel, "2 CPUs · $0.04/h · $0.02/h more")
    assert says(panel, "1 GPU · no price · not to be had: the local cloud has no GPU")
    assert panel._buttons["gpu", "S"].disabled
    assert not panel._buttons["cpu", "M"].disabled
    assert panel._resize.disabled  # nothing is chosen


def test_a_choice_says_what_it_costs_and_how_long_the_money_lasts(here, resizing):
    resizing()
    left = {"currency": "USD", "left_micro": 8_200_000, "limit_micro": 9_000_000, "of": "credit"}
    here.parts["billing"].answers["cost"]["left"] = left
    panel = ResizePanel()
    choose(panel, "cpu", "M")
    assert says(panel, "at $0.082/h · now $0.041/h · $0.041/h more · what is left lasts 100 h")
    choose(panel, "cpu", "S")  # its own again
    assert panel._resize.disabled


def test_a_resize_asks_first_and_says_how_it_ended(here, resizing):
    supervisor = resizing()
    panel = ResizePanel()
    choose(panel, "cpu", "M")
    press(panel, "Resize…")
    assert says(panel, "Files stay. Kernels and programs may be interrupted")
    press(panel, "Cancel")
    assert [each for each in supervisor.asked if each[0] == "POST"] == []
    press(panel, "Resize…")
    press(panel, "Resize now")
    wait_for(lambda: says(panel, "Resized to cpu M, gpu none, disk S."), "it says how it ended")
    [asked] = [each for each in supervisor.asked if each[0] == "POST"]
    assert asked[3]["cpu"] == "M"


def test_an_old_size_that_was_kept_is_said_with_the_reason(here, resizing):
    resizing(Phase.TAKEN_BACK, "It keeps cpu S, gpu none, disk S: no capacity left")
    panel = ResizePanel()
    choose(panel, "cpu", "M")
    press(panel, "Resize…")
    press(panel, "Resize now")
    wait_for(lambda: says(panel, "no capacity left."), "the reason is said")


def test_a_refusal_stands_beside_the_choice_and_nothing_can_be_pressed(here):
    supervisor = here.parts["supervisor"]
    evil = "over quota <script>alert(1)</script>\u202e"
    supervisor.answers["instances/[^/]+/resize"] = {
        "error": {"code": "over_quota", "message": evil}
    }
    supervisor.status = 400
    panel = ResizePanel()
    choose(panel, "cpu", "M")
    assert says(panel, "over quota &lt;script&gt;alert(1)&lt;/script&gt;\\u202e")
    assert panel._resize.disabled


def test_it_may_wait_until_all_is_idle(here, resizing, monkeypatch):
    resizing()
    started = []
    monkeypatch.setattr(runs, "start", lambda run, _: started.append(run))
    panel = ResizePanel()
    choose(panel, "cpu", "M")
    press(panel, "Resize…")
    press(panel, "When all is idle")
    [run] = started
    assert (run.work, run.then, run.then_size) == ("idle", "resize", {"cpu": "M"})
    assert says(panel, f"undo it: nightingale run --cancel {run.id}")


def test_where_the_server_ends_the_page_is_handed_over(here, resizing):
    resizing()
    panel = ResizePanel()
    panel._status["instance"]["cloud"] = "aws"
    choose(panel, "cpu", "M")
    press(panel, "Resize…")
    press(panel, "Resize now")
    [shown] = panel._page.outputs
    script = shown["data"]["application/javascript"]
    assert json.loads(script.partition("(")[2].rstrip(")")) == "/services/console/resize?back=1"


def test_a_hub_that_is_away_is_said_and_asked_again(here):
    here.hub.is_down = True
    try:
        panel = ResizePanel()
        assert says(panel, "the hub does not answer")
    finally:
        here.hub.is_down = False
    press(panel, "Ask again")
    assert says(panel, "1 CPU")
