"""A stand-in for the audit service that fails in every way, and a shipper that sends to it."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import zstandard

from nightingale_hub.audit_chain import Seal, begin, find_flaw, is_open_signed
from tests.audit_mount import LIMIT_S

SHIP = [sys.executable, "-m", "nightingale_hub.fuse_audit.ship"]
Fault = Callable[["Service", BaseHTTPRequestHandler], bool]


class Service(ThreadingHTTPServer):
    """An audit service: it keeps each line once, and misbehaves as its faults say.

    A fault is called for one request each, and returns whether it has dealt with it.
    """

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.lines: list[bytes] = []
        self.arrived_s: list[float] = []
        self.batches: list[tuple[int, int]] = []
        self.tries = 0
        self.keys: set[str] = set()
        self.open_status = 200
        self.seals: dict[int, Seal] = {}
        self.sent: list[Seal] = []
        self.faults: list[Fault] = []
        self.largest = 1 << 30
        self.lock = threading.Lock()
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def store(self, first: int, lines: list[bytes]) -> dict[str, Any]:
        """Store what is new and return the reply, as the contract has it."""
        if first > len(self.lines) + 1:
            return {"error": {"code": "gap", "expect": len(self.lines) + 1}}
        for seq, line in enumerate(lines, first):
            if seq <= len(self.lines):
                if self.lines[seq - 1] != line:
                    return {"error": {"code": "conflict"}}
            else:
                self.lines.append(line)
                self.arrived_s.append(time.monotonic())
        self.batches.append((first, first + len(lines) - 1))
        return {"ack": len(self.lines)}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Service

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.headers["Authorization"] == "Bearer s3cret"
        if self.path == "/base/api/streams/i-1:b-1/open":
            self.open(json.loads(body))
            return
        assert self.path == "/base/api/streams/i-1:b-1/batches"
        assert self.headers["Content-Type"] == "application/x-ndjson"
        assert self.headers["Content-Encoding"] == "zstd"
        data = zstandard.ZstdDecompressor().decompress(body)
        assert data.endswith(b"\n")
        self.lines = data[:-1].split(b"\n")
        self.first = int(self.headers["X-First-Seq"])
        assert int(self.headers["X-Last-Seq"]) == self.first + len(self.lines) - 1
        self.check_seal()
        with self.server.lock:
            self.server.tries += 1
            if self.server.faults and self.server.faults.pop(0)(self.server, self):
                return
            if len(self.lines) > self.server.largest:
                self.answer(413, {"error": {"code": "too_large"}})
                return
            reply = self.server.store(self.first, self.lines)
        self.answer(409 if "error" in reply else 200, reply)

    def open(self, announced: dict[str, Any]) -> None:
        key = announced["public_key"]
        assert is_open_signed("i-1:b-1", key, announced["signature"])
        with self.server.lock:
            self.server.keys.add(key)
            ack = len(self.server.lines)
        self.answer(self.server.open_status, {"ack": ack} if self.server.open_status == 200 else {})

    def check_seal(self) -> None:
        """Check the batch as the service does: its root, its place in the chain, its signature."""
        (key,) = self.server.keys
        headers = ("X-Prev-Chain", "X-Chain", "X-Root", "X-Signature")
        last = self.first + len(self.lines) - 1
        seal = Seal(self.first, last, *(self.headers[name] for name in headers))
        assert find_flaw(seal, self.lines, key) is None
        with self.server.lock:
            before = self.server.seals.get(self.first - 1)
            expected = before.chain if before else begin("i-1:b-1", key)
            if before or self.first == 1:
                assert seal.prev_chain == expected
            self.server.seals[seal.last_seq] = seal
            self.server.sent.append(seal)

    def answer(self, status: int, body: dict[str, Any], **headers: str) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_arguments: Any) -> None:
        pass


def dies_before_storing(service, handler) -> bool:
    handler.close_connection = True
    return True


def dies_after_storing(service, handler) -> bool:
    service.store(handler.first, handler.lines)
    handler.close_connection = True
    return True


def stores_half_and_dies(service, handler) -> bool:
    service.store(handler.first, handler.lines[: len(handler.lines) // 2])
    handler.close_connection = True
    return True


def is_busy(service, handler) -> bool:
    handler.answer(503, {"error": {"code": "unavailable"}}, Retry_After="1")
    return True


def says_nonsense(service, handler) -> bool:
    handler.answer(200, {"ok": "yes"})
    return True


def is_slow(service, handler) -> bool:
    time.sleep(0.5)
    return False


class Shipping:
    """One shipper process on `<place>/spool`, ended with the test."""

    def __init__(self, place: Path, port: int, **settings: Any) -> None:
        self.settings = place / "ship.json"
        self.errors = place / "ship.log"
        values = {
            "spool": str(place / "spool"),
            "audit_url": f"http://127.0.0.1:{port}/base/api/",
            "stream_id": "i-1:b-1",
            "credential": "s3cret",
        }
        self.settings.write_text(json.dumps(values | settings))
        self.start()

    def start(self) -> None:
        with self.errors.open("ab") as errors:
            self.process = subprocess.Popen([*SHIP, str(self.settings)], stderr=errors)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(LIMIT_S)

    def __enter__(self) -> "Shipping":
        return self

    def __exit__(self, *_arguments: object) -> None:
        self.process.kill()
        self.process.wait()
