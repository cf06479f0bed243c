"""What exports are sent to: a real rsyslog with TLS, an OTLP receiver on the published protocol
buffers, and receivers that hold Elasticsearch's and Datadog's published formats to the letter.
"""

import gzip
import json
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from tests.audit_mount import LIMIT_S

Answer = tuple[int, dict[str, Any] | None]


class Receiver(ThreadingHTTPServer):
    """Takes POSTs; *faults* are answered first, one a request, with nothing stored."""

    daemon_threads = True
    path = "/"

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.faults: list[Answer | Callable[[BaseHTTPRequestHandler], None]] = []
        self.requests = 0
        self.wrong: list[str] = []
        self.lock = threading.Lock()
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def take(self, headers: Any, body: bytes) -> Answer:
        raise NotImplementedError

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is what some tests are about."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        with self.server.lock:
            self.server.requests += 1
            fault = self.server.faults.pop(0) if self.server.faults else None
            if callable(fault):
                fault(self)
                return
            if fault is None:
                try:
                    assert self.path == self.server.path, self.path
                    fault = self.server.take(self.headers, body)
                except (AssertionError, ValueError, KeyError, json_format.ParseError) as error:
                    self.server.wrong.append(repr(error))
                    fault = (400, {"error": repr(error)})
        status, value = fault
        data = b"" if value is None else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


# What ECS 8.17 says of the fields that we send: keyword, date, long, and allowed values.
ECS = {
    "@timestamp": "date", "message": "text", "ecs.version": "keyword", "event.id": "keyword",
    "event.kind": {"event", "alert"}, "event.category": {"file", "intrusion_detection"},
    "event.type": {"access", "info"}, "event.action": "keyword",
    "event.outcome": {"success", "failure", "unknown"}, "event.sequence": "long",
    "event.duration": "long", "event.module": "keyword", "event.dataset": "keyword",
    "event.ingested": "date", "event.severity": "long", "user.id": "keyword",
    "user.name": "keyword", "file.path": "keyword", "file.name": "keyword",
    "file.inode": "keyword", "process.executable": "keyword", "process.pid": "long",
    "process.parent.pid": "long", "host.id": "keyword", "rule.id": "keyword",
    "rule.name": "keyword", "rule.version": "keyword",
}  # fmt: skip


def check_ecs(document: dict[str, Any]) -> None:
    """Raise `AssertionError` for a field that ECS does not have, or has otherwise."""
    flat: dict[str, Any] = {}

    def walk(value: dict[str, Any], prefix: str) -> None:
        for name, each in value.items():
            if isinstance(each, dict):
                walk(each, f"{prefix}{name}.")
            else:
                flat[prefix + name] = each

    walk(document, "")
    for name in ("@timestamp", "ecs.version", "event.kind", "event.category", "event.type"):
        assert name in flat, name
    for name, value in flat.items():
        if name.startswith("nightingale."):
            continue
        kind = ECS[name]
        if name in ("event.category", "event.type"):
            assert isinstance(value, list) and isinstance(kind, set) and set(value) <= kind, name
        elif isinstance(kind, set):
            assert value in kind, name
        elif kind == "long":
            assert isinstance(value, int) and -(2**63) <= value < 2**63, name
        else:
            assert isinstance(value, str), name
            if kind == "date":
                assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", value), value


class ElasticsearchReceiver(Receiver):
    """The bulk API over one index: `create` of a known `_id` is a conflict of that item alone."""

    path = "/_bulk"

    def __init__(self) -> None:
        super().__init__()
        self.documents: dict[str, dict[str, Any]] = {}
        self.refused: set[str] = set()  # ids that the mapping does not take
        self.full: set[str] = set()  # ids that meet a full queue, once

    def take(self, headers: Any, body: bytes) -> Answer:
        assert headers["Content-Type"] == "application/x-ndjson"
        assert headers["Authorization"] == "ApiKey s3cret"
        assert body.isascii() and body.endswith(b"\n") and len(body) < 100 << 20
        lines = [json.loads(line) for line in body[:-1].split(b"\n")]
        items = []
        for action, document in zip(lines[::2], lines[1::2], strict=True):
            assert action.keys() == {"create"} and action["create"].keys() == {"_index", "_id"}
            key = action["create"]["_id"]
            assert len(key.encode()) <= 512
            check_ecs(document)
            status = 201
            if key in self.full:
                self.full.remove(key)
                status = 429
            elif key in self.refused:
                status = 400
            elif key in self.documents:
                status = 409
            else:
                self.documents[key] = document
            item = {"_index": "audit", "_id": key, "status": status}
            if status >= 400:
                item["error"] = {"type": "some_exception", "reason": "why"}
            items.append({"create": item})
        return 200, {
            "took": 1,
            "errors": any(i["create"]["status"] > 399 for i in items),
            "items": items,
        }


class OtlpReceiver(Receiver):
    """A collector's `/v1/logs`, decoded by the published protocol buffers."""

    path = "/v1/logs"

    def __init__(self) -> None:
        super().__init__()
        self.records: list[Any] = []
        self.rejects = 0

    def take(self, headers: Any, body: bytes) -> Answer:
        assert headers["Content-Type"] == "application/json"
        request = json_format.Parse(body, ExportLogsServiceRequest())
        for resource in request.resource_logs:
            names = {a.key: a.value.string_value for a in resource.resource.attributes}
            assert names["service.name"] == "nightingale-audit"
            for scope in resource.scope_logs:
                for record in scope.log_records:
                    keys = [attribute.key for attribute in record.attributes]
                    assert len(keys) == len(set(keys))
                    assert record.event_name and record.time_unix_nano and record.body.string_value
                    self.records.append(record)
        if self.rejects:
            rejected, self.rejects = self.rejects, 0
            return 200, {
                "partialSuccess": {"rejectedLogRecords": str(rejected), "errorMessage": "no"}
            }
        return 200, {}

    def keys(self) -> list[str]:
        return [
            a.value.string_value for r in self.records for a in r.attributes if a.key == "event.id"
        ]


class DatadogReceiver(Receiver):
    """The log intake with its published limits."""

    path = "/api/v2/logs"

    def __init__(self, now_us: int) -> None:
        super().__init__()
        self.entries: list[dict[str, Any]] = []
        self.now_us = now_us

    def take(self, headers: Any, body: bytes) -> Answer:
        assert headers["DD-API-KEY"] == "s3cret" and headers["Content-Type"] == "application/json"
        if len(body) > 5_000_000:
            return 413, {"errors": [{"status": "413", "title": "Payload Too Large"}]}
        entries = json.loads(body)
        assert isinstance(entries, list) and 0 < len(entries) <= 1000
        for entry in entries:
            assert len(json.dumps(entry)) <= 1_000_000
            assert all(
                isinstance(entry[k], str)
                for k in ("ddsource", "ddtags", "hostname", "message", "service")
            )
            # Any of these would be taken for the time of the entry.
            assert (
                not {"@timestamp", "_timestamp", "eventTime", "date", "published_date"}
                & entry.keys()
            )
            if "timestamp" in entry:
                at = datetime.fromisoformat(entry["timestamp"])
                age = datetime.fromtimestamp(self.now_us / 1e6, UTC) - at
                assert timedelta(minutes=-5) < age < timedelta(hours=18), age
        self.entries += entries
        return 202, {}


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 and its key, as files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "receiver")])
    now = datetime.now(UTC)
    address = x509.IPAddress(ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([address]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "cert.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths


class Rsyslog:
    """A real rsyslog that takes RFC 5424 over TLS and writes what it understood of each message."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port
        self.certificate, key = make_certificate(folder)
        self.output = folder / "received.ndjson"
        self.process: subprocess.Popen[bytes] | None = None
        (folder / "rsyslog.conf").write_text(
            f"""
global(workDirectory="{folder}" maxMessageSize="256k"
    defaultNetstreamDriver="ossl" defaultNetstreamDriverCAFile="{self.certificate}"
    defaultNetstreamDriverCertFile="{self.certificate}" defaultNetstreamDriverKeyFile="{key}")
module(load="imtcp" streamDriver.name="ossl" streamDriver.mode="1" streamDriver.authMode="anon")
template(name="line" type="list" option.jsonf="on") {{
    property(outname="host" name="hostname" format="jsonf")
    property(outname="app" name="app-name" format="jsonf")
    property(outname="action" name="msgid" format="jsonf")
    property(outname="time" name="timereported" dateFormat="rfc3339" format="jsonf")
    property(outname="pri" name="pri" format="jsonf")
    property(outname="sd" name="structured-data" format="jsonf")
    property(outname="text" name="msg" format="jsonf")
}}
input(type="imtcp" port="{port}" address="127.0.0.1" ruleset="keep")
ruleset(name="keep") {{
    action(type="omfile" file="{self.output}" template="line" asyncWriting="off")
}}
"""
        )

    def start(self) -> None:
        command = [shutil.which("rsyslogd") or "/usr/sbin/rsyslogd", "-n", "-iNONE"]
        with (self.folder / "errors").open("wb") as errors:
            self.process = subprocess.Popen(
                [*command, "-f", str(self.folder / "rsyslog.conf")],
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline and self.process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError((self.folder / "errors").read_text())

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(LIMIT_S)
            self.process = None

    def messages(self, least: int) -> list[dict[str, Any]]:
        """What was received, once at least *least* messages are there."""
        deadline = time.monotonic() + LIMIT_S
        while True:
            text = self.output.read_text() if self.output.exists() else ""
            whole, _, _ = text.rpartition("\n")  # the last line may still be written
            found = [json.loads(line) for line in whole.splitlines()]
            if len(found) >= least or time.monotonic() > deadline:
                return found
            time.sleep(0.05)


@contextmanager
def running_rsyslog(folder: Path, port: int) -> Iterator[Rsyslog]:
    receiver = Rsyslog(folder, port)
    receiver.start()
    try:
        yield receiver
    finally:
        receiver.stop()
