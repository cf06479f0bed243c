"""A file descriptor that closes itself once nobody refers to it.

Several workers use one descriptor at once while a cache may drop it: the last reference closes
it, so that no worker ever holds a number that the kernel has given to another file.
"""

import os


class Descriptor:
    """One owned descriptor; `fd` is its number, valid as long as this object is."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        """Take *fd* over."""
        self.fd = fd

    def __del__(self) -> None:
        """Close the descriptor: the reference count is what tells that it is unused."""
        os.close(self.fd)
