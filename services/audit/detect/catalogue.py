"""What the rules must know of the datasets: how large each is, and which files are none."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Extent:
    """How large a dataset is; 0 is unknown, and then no rule asks for a share of it."""

    files: int = 0
    size: int = 0


class Catalogue:
    """The catalogue that knows nothing."""

    def get_extent(self, dataset: str) -> Extent:
        """Return how large *dataset* is."""
        return Extent()

    def find_size(self, dataset: str, path: str) -> int | None:
        """Return the size of a file, or None when it is unknown."""
        return None

    def is_decoy(self, owner: str, dataset: str, path: str) -> bool:
        """Tell whether *path* is one of the honeyfiles that *owner* sees."""
        return False

    def is_probe(self, owner: str, dataset: str, path: str) -> bool:
        """Tell whether *path* is the honeyfile that *owner*'s agent opens once a day."""
        return False
