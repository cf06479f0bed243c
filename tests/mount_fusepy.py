"""The libfuse adapter on fusepy, which mfusepy came from: `mount_fusepy mount.json`.

The adapter is the product's. What stands here is what fusepy lacks: it asks for each operation by
a call, and takes a name that is not UTF-8 for an error.
"""

import codecs
import sys
from typing import Any

import fuse

from nightingale_hub.fuse_audit import __main__

ENCODING = "utf-8-of-any-bytes"


def _find_codec(name: str) -> codecs.CodecInfo | None:
    if name.replace("_", "-") != ENCODING:
        return None
    return codecs.CodecInfo(
        name=ENCODING,
        encode=lambda text, errors="strict": codecs.utf_8_encode(text, "surrogateescape"),
        decode=lambda data, errors="strict": codecs.utf_8_decode(data, "surrogateescape", True),
    )


def _ask(operations: Any, name: str, *arguments: Any) -> Any:
    return getattr(operations, name)(*arguments)


def _serve(operations: Any, path: str, **options: Any) -> None:
    fusepy(operations, path, encoding=ENCODING, **options)


if __name__ == "__main__":
    codecs.register(_find_codec)
    fusepy = fuse.FUSE
    fuse.FUSE = _serve
    sys.modules["mfusepy"] = fuse
    from nightingale_hub.fuse_audit import libfuse

    setattr(libfuse.Operations, "__call__", _ask)  # noqa: B010
    sys.exit(__main__.main(sys.argv[1:]))
