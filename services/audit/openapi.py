"""The audit service's API as OpenAPI 3.1; a test holds it against the routes."""

from typing import Any

from nightingale_hub.auth import ServiceHandler

Object = dict[str, Any]
INSTANCE: list[Object] = [{"instance": []}]
CONSOLE: list[Object] = [{"service": []}]
NUMBER: Object = {"type": "integer", "minimum": 0}
TEXT: Object = {"type": "string", "minLength": 1}
HASH: Object = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
SIGNATURE: Object = {"type": "string", "pattern": "^[0-9a-f]{128}$"}
FILTERS = {
    "owner": TEXT,
    "dataset": TEXT,
    "path": {**TEXT, "description": "exact, or a beginning when it ends with *"},
    "instance": TEXT,
    "executable": TEXT,
    "pid": NUMBER,
    "since_us": NUMBER,
    "until_us": {**NUMBER, "description": "exclusive"},
    "project": {**TEXT, "description": "by its members' reads, while they were; customer/project"},
}
LIMIT = {"limit": {"type": "integer", "minimum": 1, "maximum": 1000}}
SEAL = {
    "X-First-Seq": NUMBER,
    "X-Last-Seq": NUMBER,
    "X-Prev-Chain": HASH,
    "X-Chain": HASH,
    "X-Root": HASH,
    "X-Signature": SIGNATURE,
}
REFUSALS = {
    "400": "bad_input, bad_seal: what was sent is wrong; nothing was changed",
    "403": "not_allowed: another's, an expired or a revoked credential",
    "503": "unavailable: come again after Retry-After",
}


def _parameter(name: str, schema: Object, place: str, required: bool = True) -> Object:
    return {"name": name, "in": place, "required": required, "schema": schema}


STREAM = [_parameter("stream_id", TEXT, "path")]


def describe() -> Object:
    """Return the whole document."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "Nightingale Hub audit", "version": "1"},
        "components": {
            "securitySchemes": {
                "instance": {"type": "http", "scheme": "bearer", "description": "of its agent"},
                "service": {"type": "http", "scheme": "bearer", "description": "of the console"},
            }
        },
        "paths": {
            **_describe_senders(),
            **_describe_questions(),
            **_describe_downloads(),
            **_describe_reviews(),
        },
    }


class OpenApiHandler(ServiceHandler):
    """GET openapi.json: the document, for anyone."""

    def get(self) -> None:
        """Reply it."""
        self.reply(describe())


def _describe_senders() -> Object:
    return {
        "/api/streams/{stream_id}/open": {
            "parameters": STREAM,
            "post": {
                "summary": "Give a stream its key, once",
                "security": INSTANCE,
                "requestBody": _body(
                    {"v": {"const": 1}, "public_key": HASH, "signature": SIGNATURE}
                ),
                "responses": _answers({"ack": NUMBER}, {"409": "conflict: it has another key"}),
            },
        },
        "/api/streams/{stream_id}/batches": {
            "parameters": STREAM,
            "post": {
                "summary": "Store lines durably; answered once they are",
                "security": INSTANCE,
                "parameters": [_parameter(name, SEAL[name], "header") for name in SEAL]
                + [_parameter("Content-Encoding", {"const": "zstd"}, "header")],
                "requestBody": {"content": {"application/x-ndjson": {}}, "required": True},
                "responses": _answers(
                    {"ack": NUMBER},
                    {
                        "409": "gap with expect, conflict, or not_open",
                        "413": "too_large: over 4 MiB, or 32 MiB unpacked",
                        "429": "too_many: come again after Retry-After",
                    },
                ),
            },
        },
    }


def _describe_questions() -> Object:
    owned = {**FILTERS, **LIMIT}
    return {
        "/api/streams/{stream_id}": {
            "parameters": STREAM,
            "get": _question("How far a stream is stored and indexed", {}, "last_seq"),
        },
        "/api/reads": {
            "get": _question("Events, newest first", {**owned, "before": TEXT}, "reads", "next")
        },
        "/api/summary": {
            "get": _question(
                "What an owner or an instance read in all",
                {name: FILTERS[name] for name in ("owner", "instance")},
                "files",
                "bytes",
            )
        },
        "/api/readers": {"get": _question("Who read a file", FILTERS, "readers")},
        "/api/files": {
            "get": _question(
                "What an owner, an instance or a process read, by file",
                {**owned, "after_dataset": TEXT, "after_path": TEXT},
                "files",
                "next",
            )
        },
        "/api/manifests/{instance_id}": {
            "parameters": [_parameter("instance_id", TEXT, "path")],
            "get": _question(
                "What a run read, signed",
                {name: FILTERS[name] for name in ("pid", "since_us", "until_us")},
                "manifest",
                "note",
            ),
        },
        "/api/openapi.json": {
            "get": {"summary": "This document", "responses": _answers({"openapi": TEXT}, {})}
        },
    }


def _describe_downloads() -> Object:
    return {
        "/api/downloads": {
            "get": _question(
                "What left for a browser: told by Jupyter, and counted by the kernel",
                {name: FILTERS[name] for name in ("owner", "instance", "since_us", "until_us")}
                | LIMIT,
                "told",
                "counted_bytes",
                "downloads",
            ),
            "post": {
                "summary": "Tell what the server says that it served, each entry once",
                "security": INSTANCE,
                "requestBody": _body({"run": TEXT, "downloads": {"type": "array"}}),
                "responses": _answers({}, {"413": "too_large: over 1 MiB"}),
            },
        },
    }


def _describe_reviews() -> Object:
    reviewer = {"reviewer": TEXT, "admin": {"enum": ["0", "1"]}}
    said = {"reviewer": TEXT, "admin": {"type": "boolean"}, "verdict": TEXT, "note": {}}
    bypass = {"owner": TEXT, "reviewer": TEXT, "rules": {"type": "array"}, "hours": NUMBER}
    return {
        "/api/review": {"get": _question("What waits for a reviewer", reviewer, "findings")},
        "/api/review/{finding}": {
            "parameters": [_parameter("finding", NUMBER, "path")],
            "post": {
                "summary": "Sign a finding off",
                "security": CONSOLE,
                "requestBody": _body(said),
                "responses": _answers({}, {"404": "not_found: none of the reviewer's"}),
            },
        },
        "/api/bypasses": {
            "post": {
                "summary": "Let somebody break rules for a time, with a reason",
                "security": CONSOLE,
                "requestBody": _body({**bypass, "reason": TEXT}),
                "responses": _answers({"bypass": NUMBER}, {}),
            }
        },
        "/api/report": {
            "get": _question(
                "The access record of a dataset for a month",
                {"dataset": TEXT, "month": {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}$"}}
                | reviewer,
                "csv",
                "pdf",
            )
        },
    }


def _question(summary: str, query: Object, *fields: str) -> Object:
    return {
        "summary": summary,
        "security": CONSOLE,
        "parameters": [_parameter(name, query[name], "query", required=False) for name in query],
        "responses": _answers({name: {} for name in fields}, {"404": "not_found: there is none"}),
    }


def _body(fields: Object) -> Object:
    schema = {"type": "object", "required": [*fields], "properties": fields}
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _answers(fields: Object, more: dict[str, str]) -> Object:
    refusals = {status: {"description": text} for status, text in {**REFUSALS, **more}.items()}
    content = _body(fields)["content"]
    return {"200": {"description": "done", "content": content}, **refusals}
