"""The audit service's OpenAPI says what its routes do: each path, method and parameter."""

import re
from typing import Any

import pytest

from nightingale_hub.services.audit.openapi import describe
from nightingale_hub.services.audit.service import list_routes
from tests.audit import CONSOLE, add_instance, audit_service, make_lines

METHODS = {"get", "post", "put", "delete", "patch"}


def list_paths() -> list[tuple[str, str, Any]]:
    return [
        (path, method, item)
        for path, item in describe()["paths"].items()
        for method in METHODS & item.keys()
    ]


def test_each_route_is_described_and_nothing_else():
    nothing: Any = None
    routes = list_routes(nothing, nothing, nothing)
    described = set()
    for path, method, _ in list_paths():
        example = path.replace("{finding}", "7").lstrip("/")
        example = re.sub(r"\\{[^}]*\\}", "i-1:b-1", example)
        matching = [cls for route, cls, _ in routes if re.fullmatch(route, example)]
        assert len(matching) == 1, path
        described.add((matching[0], method))
    implemented = {
        (cls, method) for _, cls, _ in routes for method in METHODS if method in vars(cls)
    }
    assert described == implemented


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (path, each["name"])
        for path, method, item in list_paths()
        if method == "get"
        for each in item["get"].get("parameters", ())
    ],
)
async def test_each_parameter_is_taken_and_each_field_is_there(database, tmp_path, path, name):
    if database.dialect == "postgresql":
        pytest.skip("the same code on either engine; the questions themselves run on both")
    sender = add_instance(database)
    async with audit_service(database, tmp_path / "state") as audit:
        await audit.send(sender, 1, make_lines(1, 2))
        await audit.wait_indexed(sender, 2)
        query: dict[str, str] = {"owner": "alice", "dataset": "dicom", "path": "CT/*"}
        query |= {"reviewer": "root", "admin": "1", "month": "2026-11"}
        known = {each["name"] for each in describe()["paths"][path]["get"]["parameters"]}
        query = {key: value for key, value in query.items() if key in known}
        others = {"before": "9.9.9", "instance": sender.instance_id}
        query[name] = query.get(name, others.get(name, "1"))
        url = path.replace("{instance_id}", sender.instance_id).lstrip("/")
        reply = await audit.http.get(url, params=query, headers=CONSOLE)
        assert reply.status_code == 200, reply.text
        schema = describe()["paths"][path]["get"]["responses"]["200"]["content"]
        assert set(schema["application/json"]["schema"]["required"]) <= reply.json().keys()


async def test_anyone_may_read_the_document(database, tmp_path):
    async with audit_service(database, tmp_path / "state") as audit:
        reply = await audit.http.get("api/openapi.json")
    assert reply.json() == describe()
