"""The audit mount without its audit, to tell what that costs: `unaudited mount.json`."""

import sys

from nightingale_hub.fuse_audit import __main__
from nightingale_hub.fuse_audit.gate import Gate

if __name__ == "__main__":
    setattr(Gate, "_append", lambda *_, **__: None)  # noqa: B010
    sys.exit(__main__.main(sys.argv[1:]))
