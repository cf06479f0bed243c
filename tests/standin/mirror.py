"""A folder of providers such as a real mirror is, with the stand-ins in it."""

import json
import platform
import shlex
import sys
from pathlib import Path

from tests.standin.provider import SCHEMAS

ROOT = Path(__file__).parents[2]
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}


def make_mirror(folder: Path) -> Path:
    """Put every stand-in into *folder*, where `terraform init` finds it; return *folder*."""
    for path in sorted(SCHEMAS.glob("*.json")):
        schema = json.loads(path.read_text())
        system = f"linux_{ARCHITECTURE[platform.machine()]}"
        home = folder / schema["source"] / schema["version"] / system
        home.mkdir(parents=True)
        binary = home / f"terraform-provider-{path.stem}_v{schema['version']}"
        command = shlex.join([sys.executable, "-m", "tests.standin.provider", path.stem])
        binary.write_text(f"#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))} exec {command}\n")
        binary.chmod(0o755)
    return folder
