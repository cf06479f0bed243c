"""Builds what the browser loads: `python labextension/build.py`; `--check` tells if it is stale.

What is built is committed, so that nobody who installs the hub needs Node. The bytes depend on the
directory of the build, so a digest of the sources beside them says what they were built from.
"""

import hashlib
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
STAMP = HERE / "share" / "labextensions" / "nightingale-hub" / "sources.sha256"


def digest_sources() -> str:
    """Return a digest of all that decides what is built."""
    names = ["package.json", "package-lock.json", "tsconfig.json"]
    sources = [
        *(HERE / name for name in names),
        *(HERE / "src").iterdir(),
        HERE / "style/index.css",
    ]
    lines = [f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in sources]
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def main(arguments: list[str]) -> int:
    """Build, or check with `--check`; return the exit status."""
    if arguments == ["--check"]:
        is_fresh = STAMP.is_file() and STAMP.read_text().strip() == digest_sources()
        if not is_fresh:
            print(f"{STAMP} is older than the sources: run {__file__}", file=sys.stderr)
        return 0 if is_fresh else 1
    if arguments:
        print(f"usage: {__file__} [--check]", file=sys.stderr)
        return 2
    for command in (["npm", "ci"], ["npm", "run", "build"]):
        if subprocess.run(command, cwd=HERE).returncode:
            return 1
    STAMP.write_text(f"{digest_sources()}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
