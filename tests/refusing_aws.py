"""AWS that has no capacity of some types in some zones, before moto, which always has."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import httpx

from tests.aws import Aws

REFUSAL = """<?xml version="1.0" encoding="UTF-8"?>
<Response><Errors><Error><Code>InsufficientInstanceCapacity</Code><Message>We currently do not have
sufficient {kind} capacity in the Availability Zone you requested ({zone}).</Message></Error>
</Errors>
<RequestID>0</RequestID></Response>"""
PASSED_ON = ("content-type", "authorization", "x-amz-date", "x-amz-target", "user-agent")


class AwsWithoutCapacity(Aws):
    """An account whose `refused` pairs of type and zone (`*`: any) cannot be had."""

    def __init__(self, port: int, behind: Aws) -> None:
        super().__init__(port, behind.pid, Path(behind.anchors), behind.authority)
        self.refused: set[tuple[str, str]] = set()
        self.asked: list[tuple[str, str]] = []
        self._behind = behind

    def find_refusal(self, body: str) -> str | None:
        """Return what is answered instead of passing a request on, or None."""
        fields = {name: each[0] for name, each in parse_qs(body).items()}
        if fields.get("Action") != "RunInstances":
            return None
        kind = fields["InstanceType"]
        [subnet] = [each for name, each in fields.items() if name.endswith("SubnetId")]
        [found] = self._behind.ec2.describe_subnets(SubnetIds=[subnet])["Subnets"]
        zone = found["AvailabilityZone"]
        if (kind, zone) not in self.asked:
            self.asked.append((kind, zone))
        if self.refused.isdisjoint({(kind, zone), (kind, "*"), ("*", "*")}):
            return None
        return REFUSAL.format(kind=kind, zone=zone)


@contextmanager
def without_capacity(behind: Aws) -> Iterator[AwsWithoutCapacity]:
    """Yield an account that is *behind* but for its capacity."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            refusal = aws.find_refusal(body.decode())
            if refusal is not None:
                self.answer(500, refusal.encode(), "text/xml")
                return
            headers = {name: self.headers[name] for name in PASSED_ON if name in self.headers}
            url = behind.environment["AWS_ENDPOINT_URL"] + self.path
            reply = httpx.post(url, content=body, headers=headers, timeout=60, trust_env=False)
            self.answer(reply.status_code, reply.content, reply.headers["Content-Type"])

        def answer(self, status: int, content: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    aws = AwsWithoutCapacity(server.server_port, behind)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield aws
    finally:
        server.shutdown()
        server.server_close()
