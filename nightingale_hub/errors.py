"""Every error that a person may read: what happened, to what, and what to do next.

A class has a stable code, an HTTP status and an exit code. Secrets and traces go to the log,
never into a message.
"""

from typing import ClassVar


class NightingaleError(Exception):
    """The root: a failure with a message fit for the person who caused it."""

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1


class BadInput(NightingaleError):
    """A value that the caller sent is wrong; nothing was changed."""

    code = "bad_input"
    status = 400
    exit_code = 2


class BadSeal(BadInput):
    """A batch of audit records is not sealed by the key of its stream; nothing was changed."""

    code = "bad_seal"


class NoOffer(BadInput):
    """No cloud here sells the size that was asked for."""

    code = "no_offer"


class TooLarge(BadInput):
    """More was sent at once than is taken; nothing was changed."""

    code = "too_large"
    status = 413


class NotProven(NightingaleError):
    """A bundle of the audit log was edited, cut or is old, and the verifier says where."""

    code = "not_proven"
    exit_code = 11


class TooMany(NightingaleError):
    """More comes at once than is taken; the same call may work in a moment."""

    code = "too_many"
    status = 429
    exit_code = 6


class NotAllowed(NightingaleError):
    """The caller is known but may not do this."""

    code = "not_allowed"
    status = 403
    exit_code = 3


class OverQuota(NotAllowed):
    """More was asked for than the quota of the one who asks allows; nothing was changed."""

    code = "over_quota"


class OverBudget(BadInput):
    """A budget or the credit has not enough left to hold what it would cost; nothing was made."""

    code = "over_budget"


class NotFound(NightingaleError):
    """Nothing of that name exists, or the caller may not know that it does."""

    code = "not_found"
    status = 404
    exit_code = 4


class Conflict(NightingaleError):
    """The request contradicts what is already recorded; nothing was changed."""

    code = "conflict"
    status = 409
    exit_code = 5


class Unavailable(NightingaleError):
    """A part that is needed does not answer; the same call may work in a moment."""

    code = "unavailable"
    status = 503
    exit_code = 6


class TerraformFailed(NightingaleError):
    """Terraform ended without doing what it was asked."""

    code = "terraform_failed"
    exit_code = 7


class MountRefused(NightingaleError):
    """The audit mount cannot be made here, so no data is served."""

    code = "mount_refused"
    exit_code = 8


class ConfigError(NightingaleError):
    """A setting is wrong; the message names it."""

    code = "config"
    exit_code = 9


class IllegalEdge(NightingaleError):
    """An instance was asked to take a transition that its state does not have."""

    code = "illegal_edge"
    exit_code = 10


class JourneyFailed(NightingaleError):
    """A step of the demo's journey did not do what a researcher would expect."""

    code = "journey_failed"
