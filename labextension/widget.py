"""`ResizePanel`: the sizes of this instance in a notebook, with prices, and the way to another.

Plain ipywidgets, so it works wherever they do and asks nobody outside. It decides nothing: what
can be had, what it costs and how it ended is the hub's word. What others wrote is escaped.
"""

import html
import json
import os
import threading
from typing import Any

import ipywidgets as widgets
from IPython.display import Javascript

from nightingale_hub.errors import NightingaleError
from nightingale_hub.instance import runs
from nightingale_hub.instance.change import RESOURCES, wait_resized
from nightingale_hub.instance.console_client import ConsoleClient
from nightingale_hub.instance.runs import Work
from nightingale_hub.money import format_rate
from nightingale_hub.text import visible

# Its processes stay where they are; elsewhere the server is started again.
KEEPS_SERVER = ("local",)
MAX_HOURS = 10_000


class ResizePanel(widgets.VBox):  # type: ignore[misc]  # ipywidgets ships no types
    """Shows each size with what it gives, its price and the difference; resizes after a question.

    Reads the hub when it is made and at each choice. Costs what it says once it was confirmed.
    """

    def __init__(self) -> None:
        """Ask the hub for the sizes and show them; shows the reason where there are none."""
        super().__init__()
        self.add_class("nightingale-resize")
        self._console = ConsoleClient.from_environment(os.environ)
        self._chosen: dict[str, str] = {}
        self._buttons: dict[tuple[str, str], widgets.Button] = {}
        self._summary = widgets.HTML()
        self._said = widgets.HTML()
        self._page = widgets.Output()
        self._resize = _button("Resize…", self._ask)
        self._now = _button("Resize now", self._begin, "warning")
        self._later = _button("When all is idle", self._postpone)
        self._cancel = _button("Cancel", self._back)
        self._question = widgets.HBox([self._now, self._later, self._cancel])
        self.refresh()

    def refresh(self, *_: Any) -> None:
        """Ask the hub anew, and forget what was chosen."""
        try:
            self._sizes = self._console.get("sizes")
            self._status = self._console.get("status")
        except NightingaleError as error:
            self.children = [widgets.HTML(_escape(str(error))), _button("Ask again", self.refresh)]
            return
        self._chosen, self._buttons = {}, {}
        tables = [self._build_table(resource) for resource in RESOURCES]
        self.children = [
            *tables,
            self._summary,
            self._resize,
            self._question,
            self._said,
            self._page,
        ]
        self._back()
        self._show_plan()

    def _build_table(self, resource: str) -> widgets.VBox:
        own = [each for each in self._sizes["sizes"] if each["resource"] == resource]
        now = next((each for each in own if each["is_current"]), None)
        rows = [widgets.HTML(f"<b>{resource}</b>")]
        for place, each in enumerate(own):
            shrinks = resource == "disk" and now is not None and place < own.index(now)
            refusal = "a home can grow only" if shrinks else each["refusal"]
            button = _button(each["size"], lambda _, one=each: self._choose(one))
            button.disabled = bool(refusal)
            button.tooltip = refusal or f"{resource} {each['size']}"
            self._buttons[resource, each["size"]] = button
            rows.append(
                widgets.HBox(
                    [button, widgets.HTML(_describe(each, now, refusal, self._sizes["currency"]))]
                )
            )
        return widgets.VBox(rows)

    def _choose(self, size: dict[str, Any]) -> None:
        if size["is_current"]:
            self._chosen.pop(size["resource"], None)
        else:
            self._chosen[size["resource"]] = size["size"]
        self._back()
        self._show_plan()

    def _show_plan(self) -> None:
        for (resource, letter), button in self._buttons.items():
            is_current = any(
                each["is_current"] and (each["resource"], each["size"]) == (resource, letter)
                for each in self._sizes["sizes"]
            )
            is_chosen = self._chosen.get(resource) == letter
            button.icon = (
                "check" if is_chosen or (is_current and resource not in self._chosen) else ""
            )
            button.button_style = "info" if is_chosen else ""
        self._resize.disabled = True
        one = self._status["instance"]
        if one is None:
            self._summary.value = "No instance runs here."
            return
        if not self._chosen:
            self._summary.value = _escape(_name_size(one))
            return
        try:
            plan = self._console.get("resize", **self._chosen)["plan"]
        except NightingaleError as error:
            self._summary.value = _warn(str(error))
            return
        self._summary.value = _format_plan(plan, self._status.get("left"))
        self._resize.disabled = False

    def _ask(self, _: Any = None) -> None:
        self._resize.layout.display = "none"
        self._question.layout.display = ""
        self._said.value = (
            "Files stay. Kernels and programs may be interrupted: save your work. If the new size "
            "cannot be had, the old one is kept."
        )

    def _back(self, _: Any = None) -> None:
        self._question.layout.display = "none"
        self._resize.layout.display = ""
        self._said.value = ""

    def _begin(self, _: Any = None) -> None:
        self._back()
        try:
            self._console.post("resize", dict(self._chosen))
        except NightingaleError as error:
            self._said.value = _warn(f"Nothing was changed: {error}")
            return
        self._resize.disabled = True
        self._said.value = "Resizing …"
        if self._status["instance"]["cloud"] in KEEPS_SERVER:
            threading.Thread(target=self._wait, name="resize", daemon=True).start()
        else:
            # This kernel ends soon; the hub's page shows how it goes on and leads back to Lab.
            path = json.dumps(f"{self._console.pages_path}resize?back=1")
            script = Javascript(f"window.location.assign({path})")  # type: ignore[no-untyped-call]
            self._page.append_display_data(script)

    def _wait(self) -> None:
        try:
            said = str(wait_resized(self._console)["outcome"])
        except NightingaleError as error:
            said = str(error)
        self.refresh()
        self._said.value = _escape(f"{said}.")

    def _postpone(self, _: Any = None) -> None:
        self._back()
        try:
            size = dict(self._chosen)
            made = runs.create(os.environ, Work.IDLE, then="resize", then_size=size)
            runs.start(made, os.environ)
        except NightingaleError as error:
            self._said.value = _warn(f"Nothing was changed: {error}")
            return
        self._said.value = _escape(
            f"It is resized once no kernel is busy and no program runs; undo it: nightingale run "
            f"--cancel {made.id}"
        )


def _button(text: str, act: Any, style: str = "") -> widgets.Button:
    made = widgets.Button(description=text, button_style=style)
    made.on_click(act)
    return made


def _describe(size: dict[str, Any], now: dict[str, Any] | None, refusal: str, currency: str) -> str:
    nano = size["nano_per_hour"]
    parts = [size["gives"], "no price" if nano is None else format_rate(nano, currency)]
    if size["is_current"]:
        parts.append("yours")
    elif refusal:
        parts.append(f"not to be had: {refusal}")
    elif now is not None and nano is not None and now["nano_per_hour"] is not None:
        parts.append(_format_difference(nano - now["nano_per_hour"], currency))
    return _escape(" · ".join(parts))


def _format_plan(plan: dict[str, Any], left: dict[str, Any] | None) -> str:
    rate, currency = plan["then"]["nano_per_hour"], plan["currency"]
    parts = [
        f"{plan['then']['size']} at {format_rate(rate, currency)}",
        f"now {format_rate(plan['now']['nano_per_hour'], currency)}",
        _format_difference(plan["more_nano_per_hour"], currency),
    ]
    if left is not None and left["currency"] == currency and rate > 0:
        hours = left["left_micro"] * 1000 // rate
        lasts = (
            f"{hours:,} h" if 0 < hours < MAX_HOURS else "less than 1 h" if hours < 1 else "long"
        )
        parts.append(f"what is left lasts {lasts}")
    return _escape(" · ".join(parts))


def _name_size(one: dict[str, Any]) -> str:
    if one["nano_per_hour"] is None:
        return str(one["size"])
    return f"{one['size']} at {format_rate(one['nano_per_hour'], one['currency'])}"


def _format_difference(nano: int, currency: str) -> str:
    return (
        f"{format_rate(abs(nano), currency)} {'more' if nano > 0 else 'less'}"
        if nano
        else "the same"
    )


def _escape(text: str) -> str:
    return html.escape(visible(text))


def _warn(text: str) -> str:
    return f"<b>{_escape(text)}</b>"
