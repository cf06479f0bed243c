"""What really exists in a cloud, found by tag: Terraform knows only what is in its states.

One small adapter per cloud; only this file speaks to a cloud's SDK. It blocks: call it off the
event loop.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from nightingale_hub.clock import US_PER_S
from nightingale_hub.errors import ConfigError, Unavailable

TAG = "nightingale:instance"
# Why one ended, as far as a cloud tells.
# ref: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_StateReason.html
REASONS = {
    "Client.InstanceInitiatedShutdown": "it shut itself down, as after a kernel panic",
    "Client.UserInitiatedShutdown": "somebody stopped it in the cloud",
    "Server.InternalError": "the cloud's machine under it failed",
    "Server.ScheduledStop": "the cloud stopped it for a repair of its machine",
}
ENDED_STATES = ["shutting-down", "terminated", "stopping", "stopped"]
# EC2 tells a time only in words: "User initiated (2026-11-25 01:02:03 GMT)".
_SINCE = re.compile(r"\((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?:GMT|UTC)\)")


@dataclass(frozen=True)
class Found:
    """One instance as its cloud tells of it."""

    cloud_id: str
    instance_id: str  # our tag
    state: str  # the cloud's own word
    instance_type: str
    zone: str
    launched: str  # the cloud's own time, ISO 8601
    is_spot: bool
    reason: str  # why it changed its state last, as far as the cloud says
    stopped_us: int | None = None  # when it ended, as far as the cloud says


class Inventory(Protocol):
    """What the supervisor asks of a cloud."""

    def list_instances(self, hub_id: str, instance_id: str | None = None) -> list[Found]:
        """Return what of a hub, or of one instance, exists or is about to end."""

    def list_impaired(self) -> dict[str, int]:
        """Return since when (µs) the cloud itself says that the hosts of which instances fail."""

    def terminate(self, cloud_id: str) -> None:
        """Have the cloud end an instance; one that is gone is fine."""


class AwsInventory:
    """EC2, through boto3."""

    def __init__(self, region: str, environment: Mapping[str, str]) -> None:
        """Prepare to ask *region* with the credentials that *environment* names."""
        try:
            import boto3
        except ImportError as error:
            raise ConfigError(
                "instances on AWS need boto3: pip install 'nightingale-hub[aws]'"
            ) from error
        given = {
            "aws_access_key_id": environment.get("AWS_ACCESS_KEY_ID"),
            "aws_secret_access_key": environment.get("AWS_SECRET_ACCESS_KEY"),
            "aws_session_token": environment.get("AWS_SESSION_TOKEN"),
            "endpoint_url": environment.get("AWS_ENDPOINT_URL"),
        }
        session = boto3.session.Session()
        self._client = session.client(
            "ec2", region_name=region, **{name: each for name, each in given.items() if each}
        )

    def list_instances(self, hub_id: str, instance_id: str | None = None) -> list[Found]:
        """Return what of a hub, or of one instance, exists or is about to end."""
        filters = [
            {"Name": "tag:nightingale:hub", "Values": [hub_id]},
            {
                "Name": "instance-state-name",
                "Values": ["pending", "running", *ENDED_STATES],
            },
        ]
        if instance_id is not None:
            filters.append({"Name": f"tag:{TAG}", "Values": [instance_id]})
        found = []
        with _said_plainly():
            pages = self._client.get_paginator("describe_instances").paginate(Filters=filters)
            for page in pages:
                for reservation in page["Reservations"]:
                    found += [_parse_aws(each) for each in reservation["Instances"]]
        return found

    def list_impaired(self) -> dict[str, int]:
        """Return since when (µs) EC2 says that the host or network of which instances fails."""
        filters = [{"Name": "system-status.status", "Values": ["impaired"]}]
        with _said_plainly():
            pages = self._client.get_paginator("describe_instance_status").paginate(Filters=filters)
            told = [each for page in pages for each in page["InstanceStatuses"]]
        return {
            each["InstanceId"]: int(min(since).timestamp()) * US_PER_S
            for each in told
            if each["SystemStatus"]["Status"] == "impaired"
            and (
                since := [
                    detail["ImpairedSince"]
                    for detail in each["SystemStatus"].get("Details", [])
                    if "ImpairedSince" in detail
                ]
            )
        }

    def terminate(self, cloud_id: str) -> None:
        """Have EC2 end an instance; one that is gone is fine."""
        from botocore.exceptions import ClientError

        with _said_plainly():
            try:
                self._client.terminate_instances(InstanceIds=[cloud_id])
            except ClientError as error:
                if error.response["Error"]["Code"] != "InvalidInstanceID.NotFound":
                    raise


def get_inventory(cloud: str, region: str, environment: Mapping[str, str]) -> Inventory | None:
    """Return the inventory of *cloud*, or None where there is none to ask."""
    return AwsInventory(region, environment) if cloud == "aws" else None


def explain_reason(reason: str) -> str:
    """Return a cloud's *reason* in words; the cloud's own where there are none."""
    said = REASONS.get(reason, reason or "no reason given")
    return f"the cloud says that it does not run any more ({said})"


class _said_plainly:
    """Makes every failure of the SDK an `Unavailable` with its own words."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        if isinstance(error, BotoCoreError | ClientError):
            raise Unavailable(f"AWS does not say what exists: {error}") from error


def _parse_since(state: str, words: str) -> int | None:
    told = _SINCE.search(words)
    if state not in ENDED_STATES or told is None:
        return None
    return int(datetime.fromisoformat(f"{told[1]}+00:00").timestamp()) * US_PER_S


def _parse_aws(each: dict[str, Any]) -> Found:
    tags = {tag["Key"]: tag["Value"] for tag in each.get("Tags", [])}
    return Found(
        cloud_id=each["InstanceId"],
        instance_id=tags.get(TAG, ""),
        state=each["State"]["Name"],
        instance_type=each["InstanceType"],
        zone=each["Placement"]["AvailabilityZone"],
        launched=each["LaunchTime"].isoformat(),
        is_spot=each.get("InstanceLifecycle") == "spot",
        reason=each.get("StateReason", {}).get("Code") or each.get("StateTransitionReason", ""),
        stopped_us=_parse_since(each["State"]["Name"], each.get("StateTransitionReason", "")),
    )
