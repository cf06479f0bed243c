"""What a cloud's signed word says of an instance, and whether that is the one that was made.

A verifier answers for the signature alone; here what was signed is held against the record. All of
it must fit: who holds another instance's evidence, or an older one's, is refused.
"""

from dataclasses import dataclass

from nightingale_hub.clock import US_PER_S
from nightingale_hub.errors import NotAllowed

# The clouds' clocks and ours may differ by so much.
SLACK_US = 60 * US_PER_S


@dataclass(frozen=True)
class Said:
    """What is in the evidence; None where a cloud does not say."""

    subject: str
    account: str
    region: str | None = None
    image: str | None = None
    begun_us: int | None = None  # when the instance began, or the evidence was made
    expires_us: int | None = None
    nonce: str | None = None


@dataclass(frozen=True)
class Expected:
    """What the evidence must say: from the record and from Terraform's own outputs."""

    subject: str
    account: str
    region: str
    image: str
    made_us: int  # nothing that began before is of this launch
    nonce: str | None = None


def check_said(said: Said, expected: Expected, at_us: int) -> None:
    """Raise `NotAllowed`, naming what does not fit, unless *said* is of the instance *expected*."""
    for what in ("subject", "account", "region", "image", "nonce"):
        found, wanted = getattr(said, what), getattr(expected, what)
        if what in ("region", "image", "nonce") and (found is None or wanted is None):
            continue
        if found != wanted:
            raise NotAllowed(f"the evidence is of another {what}: {str(found)[:80]!r}")
    if said.begun_us is not None and said.begun_us < expected.made_us - SLACK_US:
        raise NotAllowed("the evidence is of an instance from before this launch")
    if said.begun_us is not None and said.begun_us > at_us + SLACK_US:
        raise NotAllowed("the evidence is from the future; see the clock of the hub")
    if said.expires_us is not None and at_us > said.expires_us + SLACK_US:
        raise NotAllowed("the evidence has expired")
