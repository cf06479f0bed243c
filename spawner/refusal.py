"""Why a server does not start, as the hub shows it on its pages and in its API."""

from jupyterhub.spawner import SpawnException

from nightingale_hub.errors import NightingaleError, NoOffer, Unavailable

LABELS: dict[type[NightingaleError], str] = {NoOffer: "no_offer", Unavailable: "unavailable"}


class LaunchRefused(SpawnException):  # type: ignore[misc]  # jupyterhub ships no types
    """A launch that does not happen; its message is for the person who asked."""

    def __init__(self, message: str, reason: str, status_code: int = 400) -> None:
        """Say *message*; *reason* is a label for the hub's metrics."""
        super().__init__(message, reason=reason, status_code=status_code)
        # Both the pages and the API show this in place of the exception's own text.
        self.jupyterhub_message = message

    @classmethod
    def from_error(cls, error: NightingaleError) -> "LaunchRefused":
        """Return the refusal that *error* means."""
        return cls(str(error), LABELS.get(type(error), error.code), error.status)
