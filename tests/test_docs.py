"""What is not documented does not exist: settings, errors and promises stand in docs/."""

import re
import shlex
from pathlib import Path

import pytest

from nightingale_hub import errors
from nightingale_hub.settings import NightingaleHub
from nightingale_hub.spawner.spawner import TerraformSpawner

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def list_errors():
    return [
        each
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, errors.NightingaleError)
    ]


@pytest.mark.parametrize("name", sorted(NightingaleHub.class_traits(config=True)))
def test_each_setting_is_documented_with_its_help(name):
    help_text = NightingaleHub.class_traits()[name].help
    text = re.sub(r"\s+", " ", (DOCS / "settings.md").read_text())
    assert f"`c.NightingaleHub.{name}`" in text
    assert re.sub(r"\s+", " ", help_text) in text


@pytest.mark.parametrize("name", sorted(TerraformSpawner.class_own_traits(config=True)))
def test_each_setting_of_the_spawner_is_documented_with_its_help(name):
    help_text = TerraformSpawner.class_own_traits()[name].help
    text = re.sub(r"\s+", " ", (DOCS / "settings.md").read_text())
    assert f"`c.TerraformSpawner.{name}`" in text
    assert re.sub(r"\s+", " ", help_text) in text


def test_no_two_errors_share_a_code():
    codes = [error.code for error in list_errors()]
    assert len(codes) == len(set(codes))


@pytest.mark.parametrize("error", list_errors())
def test_each_error_is_documented_with_its_status_and_exit_code(error):
    meaning = error.__doc__.splitlines()[0]
    row = f"| `{error.code}` | {error.status} | {error.exit_code} | {meaning} |"
    assert row in (DOCS / "errors.md").read_text().splitlines()


def list_commands():
    text = (DOCS / "acceptance.md").read_text()
    return sorted(set(re.findall(r"`((?:bin/|\.ci/)[^`]*)`", text)))


@pytest.mark.parametrize("command", list_commands())
def test_each_command_of_the_acceptance_names_what_exists(command):
    program, *arguments = shlex.split(command)
    assert (ROOT / program).exists()
    for argument in arguments:
        if argument.startswith("tests/"):
            path, _, name = argument.partition("::")
            assert (ROOT / path).exists(), argument
            if name:
                assert f"def {name.partition('[')[0]}(" in (ROOT / path).read_text(), argument


def test_each_link_of_the_papers_leads_somewhere():
    for paper in [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)[^)]*\)", paper.read_text()):
            assert (paper.parent / target).exists(), f"{paper.name} → {target}"
