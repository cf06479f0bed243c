"""A finding: which rule was broken by whom, when, and the words in which that is told.

The words are for the researcher and the data owner alike: what was seen, and what would explain it.
"""

from dataclasses import dataclass, field

SEVERITIES = ("low", "medium", "high", "critical")
US_PER_MINUTE = 60_000_000


@dataclass(frozen=True)
class Finding:
    """One broken rule; `key` is the same whenever the same events are looked at again."""

    rule: str
    version: int
    severity: str
    owner: str
    dataset: str  # empty: of no one dataset
    since_us: int
    until_us: int
    reason: str
    facts: dict[str, int | float | str] = field(default_factory=dict)
    place: str = ""  # what of it the finding is about: a path, a stream

    @property
    def key(self) -> str:
        """What makes it the same finding: rule, how grave, person, dataset, place and beginning."""
        words = (self.rule, str(self.version), self.severity, self.owner, self.dataset, self.place)
        return "/".join(w.replace("%", "%25").replace("/", "%2F") for w in words) + (
            f"/{self.since_us // US_PER_MINUTE}"
        )
