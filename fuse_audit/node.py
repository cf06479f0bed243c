"""A node: one name in the tree that a mount serves, whether or not anything is there."""

import os

from nightingale_hub.fuse_audit.configuration import Dataset


class Node:
    """One name in the tree. `path` is relative to the dataset; the root has no dataset."""

    __slots__ = ("dataset", "name", "parent", "path")

    def __init__(self, parent: "Node | None", name: bytes, dataset: Dataset | None) -> None:
        """Name *name* in *parent*; the root has no parent and a dataset's node an empty path."""
        self.parent = parent
        self.name = name
        self.dataset = dataset
        is_below = parent is not None and parent.dataset is not None
        self.path: bytes = os.path.join(parent.path, name) if parent and is_below else b""
