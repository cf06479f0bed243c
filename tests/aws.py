"""AWS without an account: the real provider and SDK against moto, and what would boot there.

Needs a mirror with the provider's binary: NIGHTINGALE_TERRAFORM_MIRROR, or one in a usual place.
"""

import asyncio
import base64
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest

from nightingale_hub.ports import find_free_ports
from tests.authority import Party, make_request, sign_aws
from tests.fleet import Fleet
from tests.local_instance import wait_for

REGION = "us-east-1"
ACCOUNT = "123456789012"
# Nobody else writes this, so wherever it is found, the account's own secret was written down.
SECRET = f"canary-{os.urandom(8).hex()}"
IMAGE = "ami-12c6146b"  # moto's own
USUAL_PLACES = ("/opt", "/usr/local", "/usr/share", "/srv", "/var/lib")
PROVIDER = "registry.terraform.io/hashicorp/aws"


def find_mirror() -> str | None:
    """Return a folder with the provider; None where there is none."""
    given = os.environ.get("NIGHTINGALE_TERRAFORM_MIRROR")
    if given:
        return given
    for place in USUAL_PLACES:
        for depth in ("*", "*/*"):
            for found in Path(place).glob(f"{depth}/{PROVIDER}"):
                return str(found.parents[2])
    return None


needs_mirror = pytest.mark.skipif(
    find_mirror() is None,
    reason="no mirror of Terraform providers here; set NIGHTINGALE_TERRAFORM_MIRROR to a folder "
    f"that holds {PROVIDER}",
)


class Aws:
    """One account in memory."""

    def __init__(self, port: int, pid: int, anchors: Path, authority: Party | None = None) -> None:
        self.pid = pid  # of moto
        self.authority = authority or Party("AWS")
        self.anchors = str(anchors)
        anchors.write_text(self.authority.pem)
        self.environment = {
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        }
        self.ec2 = boto3.client(
            "ec2",
            region_name=REGION,
            endpoint_url=f"http://127.0.0.1:{port}",
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )

    @property
    def settings(self) -> dict[str, Any]:
        """What a hub is set to, to run here."""
        cloud = {
            "zones": ["us-east-1a", "us-east-1b"],
            "image": IMAGE,
            "hub_cidrs": ["10.0.0.0/24"],
            "environment": self.environment,
            "instead": {"g5.2xlarge": ["g5.xlarge"]},
            # Loopback, so that what moto only says is there can answer at the address it gives.
            "cidr": "127.64.0.0/16",
            "identity": {"account": ACCOUNT, "anchors": self.anchors},
        }
        mirror = find_mirror() or ""
        return {"clouds": {"aws": cloud}, "terraform_mirror": mirror, "boot_timeout_s": 600.0}

    def list_instances(self, *states: str) -> list[dict[str, Any]]:
        """Return the instances in *states*, of every hub."""
        states = states or ("pending", "running", "stopping", "stopped")
        filters = [{"Name": "instance-state-name", "Values": list(states)}]
        pages = self.ec2.describe_instances(Filters=filters)["Reservations"]
        return [each for page in pages for each in page["Instances"]]

    def list_homes(self) -> list[dict[str, Any]]:
        """Return the volumes that are homes."""
        filters = [{"Name": "tag:nightingale:part", "Values": ["home"]}]
        return list(self.ec2.describe_volumes(Filters=filters)["Volumes"])


@contextmanager
def running_moto() -> Iterator[Aws]:
    """Yield an empty account; its server ends with the block."""
    [port] = find_free_ports(1)
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process,
    ):
        try:
            aws = Aws(port, process.pid, Path(folder) / "aws.pem")

            def answers() -> bool:
                with_it = httpx.get(aws.environment["AWS_ENDPOINT_URL"], trust_env=False)
                return with_it.status_code < 500

            wait_for(lambda: _quiet(answers), timeout_s=60)
            yield aws
        finally:
            process.kill()


def _quiet(look: Any) -> bool:
    try:
        return bool(look())
    except httpx.HTTPError:
        return False


def make_call(aws: Aws, found: dict[str, Any], given: dict[str, str], port: int) -> dict[str, Any]:
    """Return what the instance *found* says when it calls home with what it was *given*."""
    return {
        "instance_id": given["instance_id"],
        "nonce": given["nonce"],
        "boot_id": os.urandom(16).hex(),
        "host": found["PrivateIpAddress"],
        "port": port,
        "csr": make_request()[1],
        "evidence": sign_aws(
            aws.authority,
            accountId=ACCOUNT,
            region=REGION,
            instanceId=found["InstanceId"],
            imageId=found["ImageId"],
            pendingTime=found["LaunchTime"].strftime("%Y-%m-%dT%H:%M:%SZ"),
        ),
    }


class BootOfMoto:
    """What an instance would do that moto only pretends to run: call home, and answer its nonce."""

    def __init__(self, fleet: Fleet, aws: Aws) -> None:
        self.fleet = fleet
        self.aws = aws
        self.nonce = ""
        boot = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("X-Nightingale-Instance", boot.nonce)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("", 0), Handler)  # at whichever address moto gave
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    async def boot(self, key: str, timeout_s: float = 300) -> None:
        """Wait until the instance of *key* exists, and call home with what it was given."""

        def find() -> Any:
            for each in self.aws.list_instances("running"):
                tags = {tag["Key"]: tag["Value"] for tag in each["Tags"]}
                if tags.get("nightingale:instance") == key:
                    return each
            return None

        async with asyncio.timeout(timeout_s):
            while (found := await asyncio.to_thread(find)) is None:
                # One that is given up will never be there.
                assert self.fleet.get(key).wanted == "running", self.fleet.list_lines(key)
                await asyncio.sleep(0.2)
        attribute = await asyncio.to_thread(
            self.aws.ec2.describe_instance_attribute,
            InstanceId=found["InstanceId"],
            Attribute="userData",
        )
        given = json.loads(base64.b64decode(attribute["UserData"]["Value"]))
        call = make_call(self.aws, found, given, self.server.server_port)
        url = f"http://127.0.0.1:{self.fleet.port}/services/supervisor/api/bootstrap"
        async with httpx.AsyncClient(trust_env=False) as client:
            async with asyncio.timeout(timeout_s):
                # It runs before Terraform has said so; an agent asks again too.
                while (answer := await client.post(url, json=call, timeout=30)).status_code == 503:
                    await asyncio.sleep(0.5)
        assert answer.status_code == 200, answer.text
        self.nonce = answer.json()["api_nonce"]

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
