"""The dashboards are whole, and ask for nothing that the exports do not send."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from nightingale_hub.services.audit import export
from nightingale_hub.services.audit.export.record import flatten
from tests.test_export_targets import make_alert, make_records

FOLDER = Path(export.__file__).parent / "dashboards"
SENT = {
    name: value
    for record in (make_alert(), *make_records(["a"]))
    for name, value in flatten(record.body)
}


def load_kibana() -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FOLDER / "kibana.ndjson").read_text().splitlines()]


def values_of(value: Any, key: str) -> list[str]:
    """Every text under *key*, however deep, and in JSON that stands in a text."""
    if isinstance(value, str) and value[:1] in "{[" and value[1:]:
        value = json.loads(value)
    if isinstance(value, dict):
        found = [each for name, each in value.items() if name == key and isinstance(each, str)]
        return found + [one for each in value.values() for one in values_of(each, key)]
    if isinstance(value, list):
        return [one for each in value for one in values_of(each, key)]
    return []


def fields_of_query(query: str) -> set[str]:
    return set(re.findall(r"@?([a-z][\w.]*\.[\w.]+) ?:", query))


def test_kibana_objects_refer_to_each_other_and_to_fields_that_are_sent():
    objects = load_kibana()
    known = {(each["type"], each["id"]) for each in objects}
    assert len(known) == len(objects)
    for each in objects:
        assert {"type", "id", "attributes", "references"} <= each.keys()
        names = {reference["name"].rpartition(":")[2] for reference in each["references"]}
        assert all((ref["type"], ref["id"]) in known for ref in each["references"])
        assert set(values_of(each, "panelRefName") + values_of(each, "indexRefName")) <= names
    fields = {one for each in objects for one in values_of(each, "field")}
    queries = [one for each in objects for one in values_of(each, "query")]
    assert len(fields) > 6 and fields | set().union(*map(fields_of_query, queries)) <= SENT.keys()
    [dashboard] = [each for each in objects if each["type"] == "dashboard"]
    panels = json.loads(dashboard["attributes"]["panelsJSON"])
    assert len(panels) == len(dashboard["references"]) == 6
    assert not overlap([p["gridData"] for p in panels], 48)


def test_grafana_panels_ask_one_source_for_fields_that_are_sent():
    dashboard = json.loads((FOLDER / "grafana.json").read_text())
    assert {"uid", "title", "schemaVersion", "panels", "templating", "time"} <= dashboard.keys()
    [source] = dashboard["templating"]["list"]
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids) == 6
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == f"${{{source['name']}}}"
            fields = set(values_of(target, "field")) | fields_of_query(target["query"])
            assert fields <= SENT.keys()
    assert not overlap([panel["gridPos"] for panel in dashboard["panels"]], 24)


def test_datadog_widgets_ask_for_attributes_that_are_sent():
    dashboard = json.loads((FOLDER / "datadog.json").read_text())
    assert dashboard["layout_type"] == "ordered" and len(dashboard["widgets"]) == 6
    for widget in dashboard["widgets"]:
        [request] = widget["definition"]["requests"]
        [query] = request["queries"]
        assert request["formulas"] == [{"formula": query["name"]}]
        facets = [group["facet"] for group in query["group_by"]]
        metric = query["compute"].get("metric", "@event.id")
        words = query["search"]["query"].split()
        assert words[0] == "service:nightingale-audit"
        asked = {*facets, metric, *(word.partition(":")[0] for word in words[1:])}
        assert {each.removeprefix("@") for each in asked} <= SENT.keys()
    layouts = [widget["layout"] for widget in dashboard["widgets"]]
    places = [{"x": p["x"], "y": p["y"], "w": p["width"], "h": p["height"]} for p in layouts]
    assert not overlap(places, 12)


@pytest.mark.parametrize("file", ["kibana.ndjson", "grafana.json", "datadog.json"])
def test_a_dashboard_filters_by_values_that_are_sent(file):
    text = (FOLDER / file).read_text()
    actions = set(re.findall(r"event\.action ?: ?([\w-]+)", text))
    assert actions == {"file-read", "file-denied"}
    assert set(re.findall(r"event\.kind ?: ?(\w+)", text)) == {"alert"}


def overlap(places: list[dict[str, int]], width: int) -> bool:
    cells = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    return len(cells) != len(set(cells)) or max(x for x, _ in cells) >= width
