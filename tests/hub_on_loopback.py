"""A hub's side of one instance, as a real small HTTP server on loopback."""

import http.server
import json
import threading
from typing import Any

import zstandard


class HubOnLoopback(http.server.ThreadingHTTPServer):
    """Plays the hub to one instance: a bootstrap that works once, beats, silence otherwise."""

    daemon_threads = True

    def __init__(self, nonce: str, launch: dict[str, Any]) -> None:
        super().__init__(("127.0.0.1", 0), _HubHandler)
        self.nonce: str | None = nonce
        self.launch = launch
        self.refusals_before_answer = 0
        self.bootstraps: list[dict[str, Any]] = []
        self.beats: list[dict[str, Any]] = []
        self.reports: list[dict[str, Any]] = []
        self.takes_records = True
        self.records: list[dict[str, Any]] = []
        self.granted: list[str] | None = None  # None answers nothing
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"

    def take_records(self, batch: bytes) -> tuple[int, Any]:
        if not self.takes_records:
            return 503, {}
        lines = zstandard.ZstdDecompressor().decompressobj().decompress(batch).splitlines()
        self.records += [json.loads(line) for line in lines]
        return 200, {"ack": self.records[-1]["seq"]}

    def answer(self, path: str, body: dict[str, Any], credential: str) -> tuple[int, Any]:
        if path.endswith("/beat"):
            self.beats.append({**body, "credential": credential})
            return 200, {}
        if path.endswith("/activity"):
            self.reports.append({**body, "credential": credential})
            return 200, {}
        if path.endswith("/grants") and self.granted is not None:
            return 200, {"datasets": self.granted}
        if path.endswith("/open"):
            return (200, {"ack": 0}) if self.takes_records else (503, {})
        if not path.endswith("/bootstrap"):
            return 503, {}
        if self.refusals_before_answer > 0:
            self.refusals_before_answer -= 1
            return 503, {"error": {"code": "unavailable", "message": "not yet"}}
        self.bootstraps.append(body)
        if body["nonce"] != self.nonce:
            return 403, {"error": {"code": "not_allowed", "message": "that nonce was burned"}}
        self.nonce = None
        services = {
            f"{name}_url": f"{self.url}services/{name}/api/"
            for name in ("audit", "metering", "console", "supervisor")
        }
        return 200, {**self.launch, **services}


class _HubHandler(http.server.BaseHTTPRequestHandler):
    server: HubOnLoopback

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        credential = self.headers.get("Authorization", "")
        if self.path.endswith("/batches"):
            status, answer = self.server.take_records(raw)
        else:
            status, answer = self.server.answer(self.path, json.loads(raw), credential)
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass
