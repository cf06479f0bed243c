"""The virtual environment: made once, kept while its inputs stay the same, rebuilt when half made.

The stamp in it is taken away before any change and written last, so an environment without a
stamp is one whose making was interrupted.
"""

import fcntl
import hashlib
import json
import os
import platform
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from environment import debian
from environment.progress import StepFailed, run, say, step

_INPUTS = (
    "pyproject.toml",
    "setup.cfg",
    "constraints.txt",
    "nightingale_hub/demo/package-lock.json",
    "fuse_audit/ranges.bpf.c",
)


@dataclass(frozen=True)
class Stamp:
    """What an environment was made from, and which Debian packages could not be had for it."""

    python: str
    inputs: str
    groups: list[str]
    lacking: list[str] = field(default_factory=list)


def load_stamp(venv: Path) -> Stamp | None:
    """Return the stamp of *venv*, or None where it is missing, half made or from another place."""
    try:
        return Stamp(**json.loads((venv / "stamp.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None


def save_stamp(venv: Path, stamp: Stamp) -> None:
    """Write *stamp* whole or not at all."""
    draft = venv / "stamp.json.new"
    draft.write_text(json.dumps(asdict(stamp)))
    draft.replace(venv / "stamp.json")


def describe_python(venv: Path) -> str:
    """Return the running interpreter and the place of *venv*: an environment moves with neither."""
    return f"{platform.python_version()} {Path(sys.executable).resolve()} {venv}"


def digest_inputs(home: Path) -> str:
    """Return a digest of the files that decide what is installed."""
    digest = hashlib.sha256()
    for name in _INPUTS:
        digest.update(hashlib.sha256((home / name).read_bytes()).digest())
    return digest.hexdigest()


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """Keep other set-ups of *home* out while the block runs, waiting for one that is at it."""
    build = home / "build"
    build.mkdir(parents=True, exist_ok=True)
    with (build / "setup.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another set-up of this checkout is at work; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def ensure_environment(home: Path, groups: set[str]) -> None:
    """Make `<home>/.venv` hold what *groups* need; does nothing when it already does."""
    venv = home / ".venv"
    stamp = load_stamp(venv)
    python, inputs = describe_python(venv), digest_inputs(home)
    if stamp is not None and stamp.python != python:
        stamp = None
    groups = groups | set(stamp.groups if stamp else ())
    lacking = stamp.lacking if stamp else []
    missing = [package for package in debian.list_wanted(groups) if package not in lacking]
    lacking = lacking + debian.install(missing, " and ".join(sorted(groups)))
    wanted = Stamp(python, inputs, sorted(groups), lacking)
    if stamp == wanted:
        return
    if stamp is None:
        _make_venv(venv)
    if stamp is None or (stamp.inputs, stamp.groups) != (wanted.inputs, wanted.groups):
        (venv / "stamp.json").unlink(missing_ok=True)
        _install_packages(home, venv, groups)
    save_stamp(venv, wanted)


def _make_venv(venv: Path) -> None:
    try:
        import ensurepip  # noqa: F401 - asks whether Debian's python3-venv is here
    except ImportError:
        name = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
        debian.install([name], "a virtual environment")
    with step("virtual environment"):
        run([sys.executable, "-m", "venv", "--clear", str(venv)], _environment())


def _install_packages(home: Path, venv: Path, groups: set[str]) -> None:
    python = str(venv / "bin" / "python")
    project = tomllib.loads((home / "pyproject.toml").read_text())
    tools = project["dependency-groups"]["dev"] if "test" in groups else []
    with step(f"Python packages for {' and '.join(sorted(groups))}"):
        install = [python, "-I", "-m", "pip", "install", "--quiet", "--no-input"]
        run([*install, "--editable", f"{home}[demo]", *tools], _environment(home))
    with step("configurable-http-proxy"):
        run([python, "-m", "nightingale_hub.demo.proxy"], _environment())
    _build_programs(python)


def _build_programs(python: str) -> None:
    """Compile the kernel's part of audit policy `ranges`; without it that policy is refused."""
    try:
        run([python, "-m", "nightingale_hub.fuse_audit.ranges"], _environment())
    except StepFailed as failure:
        say(f"audit policy ranges will be refused here:\n{failure}")


def _environment(home: Path | None = None) -> dict[str, str]:
    """Return the caller's environment without its Python path; with *home*, pip's constraints."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    kept["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
    if home is not None:
        # By environment, not by -c: so it also holds for what pip builds packages with.
        kept["PIP_CONSTRAINT"] = str(home / "constraints.txt")
    return kept
