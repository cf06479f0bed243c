"""Every dependency has its reason in the docs and its tested version in constraints.txt."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path

from environment import debian

ROOT = Path(__file__).parent.parent


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def list_requirements() -> set[str]:
    """Return the packages that pyproject.toml names, for the product, the demo and the tests."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    named = [
        *project["project"]["dependencies"],
        *(one for group in project["project"]["optional-dependencies"].values() for one in group),
        *(one for group in project["dependency-groups"].values() for one in group),
    ]
    return {normal(re.split(r"[\[<>=!~; ]", requirement)[0]) for requirement in named}


def list_reasons() -> dict[str, str]:
    """Return the reason that docs/dependencies.md gives for each package."""
    text = (ROOT / "docs" / "dependencies.md").read_text()
    rows = re.findall(r"^\| `([^`]+)`[^|]*\| ([^|]+) \|$", text, re.MULTILINE)
    return {normal(name): reason for name, reason in rows}


def load_constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {normal(name): pin for name, pin in pins}


def test_every_dependency_has_a_line_of_reason():
    reasons = list_reasons()
    assert sorted(list_requirements() - reasons.keys()) == []
    assert [name for name, reason in reasons.items() if len(reason.split()) < 3] == []


def test_no_reason_outlives_its_dependency():
    debian_packages = {"python3-venv", *debian.WANTED["demo"], *debian.WANTED["test"]}
    known = list_requirements() | debian_packages | {"configurable-http-proxy"}
    assert sorted(list_reasons().keys() - known) == []


def test_every_debian_package_has_a_line_of_reason():
    wanted = {*debian.WANTED["demo"], *debian.WANTED["test"]}
    assert sorted(wanted - list_reasons().keys()) == []


def test_every_dependency_has_a_tested_version():
    assert sorted(list_requirements() - load_constraints().keys()) == []


def test_what_is_installed_is_what_was_tested():
    pins = load_constraints()
    installed = {}
    for name in pins:
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            continue  # needed by another Python version, or only to build
    installed.pop("setuptools", None)  # the environment's own copy builds nothing
    assert {name: found for name, found in installed.items() if found != pins[name]} == {}


def test_nothing_is_installed_that_was_not_pinned():
    found = {normal(each.metadata["Name"]) for each in distributions()}
    own = {"nightingale-hub", "pip", "setuptools", "wheel"}
    assert sorted(found - load_constraints().keys() - own) == []
