"""The receipt of a journey: what was done, what it cost, and whether every figure agrees."""

import json
from dataclasses import dataclass, field
from typing import Any

from nightingale_hub.money import format_rate, format_usd


@dataclass(frozen=True)
class Check:
    """A figure that two independent places must give alike."""

    what: str
    got: Any
    expected: Any

    @property
    def passed(self) -> bool:
        """Whether they agree."""
        return bool(self.got == self.expected)


@dataclass
class Receipt:
    """What a researcher's journey came to."""

    instance_id: str = ""
    size: str = ""
    seconds: int = 0
    nano_usd_per_hour: int = 0
    amount_micro_usd: int = 0
    files: int = 0
    bytes_read: int = 0
    accuracy: float = 0.0
    images: int = 0
    storage: str = ""
    terraform_steps: list[str] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)

    def check(self, what: str, got: Any, expected: Any) -> None:
        """Note that *got* must equal *expected*."""
        self.checks.append(Check(what, got, expected))

    def note_storage(self, kind: str) -> None:
        """Note on what the datasets lay: zfs, zfs-fuse or a directory."""
        self.storage = kind

    @property
    def passed(self) -> bool:
        """Whether there were checks and all of them agree."""
        return bool(self.checks) and all(check.passed for check in self.checks)


def format_receipt(receipt: Receipt, as_json: bool) -> str:
    """Return *receipt* as a table for people, or as one JSON object."""
    if as_json:
        body = {**vars(receipt), "passed": receipt.passed}
        body["checks"] = [{**vars(check), "passed": check.passed} for check in receipt.checks]
        return json.dumps(body, indent=1)
    rows = [
        ("instance", f"{receipt.instance_id} ({receipt.size})"),
        ("Terraform", f"{len(receipt.terraform_steps)} steps shown while it started"),
        ("time", f"{receipt.seconds} s"),
        ("price", format_rate(receipt.nano_usd_per_hour)),
        ("statement", format_usd(receipt.amount_micro_usd)),
        ("read", f"{receipt.files} files, {receipt.bytes_read:,} bytes, from {receipt.storage}"),
        ("trained", f"{receipt.accuracy:.1%} of held-out tumours right; {receipt.images} images"),
    ]
    lines = ["", "Receipt", *(f"  {name:<10} {text}" for name, text in rows), "", "Checks"]
    for check in receipt.checks:
        lines.append(f"  {'ok  ' if check.passed else 'FAIL'}  {check.what}")
        if not check.passed:
            lines.append(f"        got {check.got!r}, expected {check.expected!r}")
    lines.append("\npassed" if receipt.passed else "\nFAILED")
    return "\n".join(lines)
