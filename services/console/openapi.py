"""The API in OpenAPI 3.1, made of the same tables that serve it."""

from collections.abc import Iterable
from typing import Any

from tornado.web import RequestHandler

from nightingale_hub.desk import FLEET_VERBS, VERBS, Field, Verb

METHODS = ("get", "post", "put", "delete")
ERROR = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {"code": {"type": "string"}, "message": {"type": "string"}},
            "required": ["code", "message"],
        }
    },
    "required": ["error"],
}


def describe_api(prefix: str, routes: Iterable[tuple[str, type[RequestHandler]]]) -> dict[str, Any]:
    """Return the description of the API below *prefix*, whose plain paths are *routes*."""
    paths: dict[str, Any] = {}
    for path, handler in routes:
        name = path.removeprefix("api/").replace("\\", "")
        if "(" in name:
            continue  # the desks' own, below, and what is not there
        own = [each for each in METHODS if _has(handler, each)]
        server = [_parameter("server", "which of your servers is meant", False)]
        paths[f"/{name}"] = {
            each: _operation(f"{each} {name}", _first_line(handler, each), server) for each in own
        }
    for folder, verbs in (("money", VERBS), ("fleet", FLEET_VERBS)):
        for name, verb in verbs.items():
            paths[f"/{folder}/{name}"] = {"post" if verb.writes else "get": _describe(name, verb)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Nightingale Hub console", "version": "1"},
        "servers": [{"url": f"{prefix}api"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Error": ERROR},
        },
    }


def _describe(name: str, verb: Verb) -> dict[str, Any]:
    if not verb.writes:
        parameters = [
            _parameter(key, each.text, each.is_required) for key, each in verb.fields.items()
        ]
        return _operation(name, verb.text, parameters)
    schema = {
        "type": "object",
        "additionalProperties": False,
        "properties": {key: _schema(each) for key, each in verb.fields.items()},
        "required": [key for key, each in verb.fields.items() if each.is_required],
    }
    body = {"required": True, "content": {"application/json": {"schema": schema}}}
    return {**_operation(name, verb.text, []), "requestBody": body}


def _has(handler: type[RequestHandler], method: str) -> bool:
    return getattr(handler, method) is not getattr(RequestHandler, method)


def _first_line(handler: type[RequestHandler], method: str) -> str:
    return (getattr(handler, method).__doc__ or handler.__doc__ or "").strip().partition("\n")[0]


def _operation(name: str, text: str, parameters: list[dict[str, Any]]) -> dict[str, Any]:
    anything = {"application/json": {"schema": {"type": "object"}}}
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {
        "operationId": name,
        "summary": text,
        "parameters": parameters,
        "responses": {
            "200": {"description": "the answer", "content": anything},
            "default": {"description": "an error that says what to do", "content": error},
        },
    }


def _parameter(name: str, text: str, is_required: bool) -> dict[str, Any]:
    said = {"description": text} if text else {}
    schema = {"type": "string"}
    return {"name": name, "in": "query", "required": is_required, "schema": schema, **said}


def _schema(each: Field) -> dict[str, Any]:
    return {"type": "integer" if each.is_whole else "string", "description": each.text}
