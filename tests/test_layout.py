"""The folders install under one import name, are all shipped, import one way and stay readable."""

import ast
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path

import pytest
from environment.checkout import list_files

ROOT = Path(__file__).parent.parent
PARTS = ("fuse_audit", "labextension", "services", "spawner", "terraform")
PRODUCT = ("nightingale_hub", *PARTS)
SERVICES = ("audit", "billing", "console", "metering", "supervisor")
MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 50

# A part may import nightingale_hub's own modules and the parts named here. The hub's own modules
# import no part: they wire parts together by name, never by import.
ALLOWED: dict[str, set[str]] = {
    importer: set() for importer in (*PRODUCT, *(f"services/{service}" for service in SERVICES))
}
ALLOWED["services/supervisor"] = {"terraform"}  # it runs it


def list_sources() -> list[Path]:
    """Return the product's Python files."""
    ours = [path for path in list_files(ROOT) if path.parts[0] in PRODUCT]
    return [ROOT / path for path in ours if path.suffix == ".py"]


def relative(source: Path) -> str:
    return str(source.relative_to(ROOT))


def part_of(source: Path) -> str:
    """Name the part of *source*: a top folder, or one service below services/."""
    folders = source.relative_to(ROOT).parts
    if folders[0] == "services" and len(folders) > 2:
        return "/".join(folders[:2])
    return folders[0]


def imported_names(source: Path) -> Iterator[str]:
    """Yield every dotted name that *source* imports, `from a import b` as `a.b`."""
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def forbidden_import(importer: str, name: str) -> bool:
    """Tell whether the part *importer* may not import the dotted *name*."""
    words = name.split(".")
    if words[0] != "nightingale_hub" or len(words) == 1 or words[1] not in PARTS:
        return False
    target = "/".join(words[1:3]) if words[1] == "services" else words[1]
    return target != importer and target not in ALLOWED[importer]


@pytest.mark.parametrize("part", PARTS)
def test_part_is_importable_under_the_project_name(part):
    assert importlib.util.find_spec(f"nightingale_hub.{part}")


@pytest.mark.parametrize("part", [*PARTS, "environment"])
def test_part_claims_no_generic_name(part, tmp_path):
    code = f"import importlib.util as u; raise SystemExit(u.find_spec({part!r}) is not None)"
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path).returncode == 0


def test_every_package_is_shipped():
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    declared = set(config["options"]["packages"].split())
    found = set()
    for init in (source for source in list_sources() if source.name == "__init__.py"):
        folders = init.parent.relative_to(ROOT).parts
        own = folders[0] == "nightingale_hub"
        found.add(".".join(folders if own else ("nightingale_hub", *folders)))
    assert declared == found


def test_every_folder_with_python_is_a_package():
    folders = {source.parent for source in list_sources()}
    assert [relative(folder) for folder in folders if not (folder / "__init__.py").exists()] == []


def test_every_shipped_data_pattern_finds_a_file():
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    for package, patterns in config["options.package_data"].items():
        spec = importlib.util.find_spec(package)
        assert spec is not None and spec.origin is not None
        for pattern in re.split(r"[,\s]+", patterns.strip()):
            assert list(Path(spec.origin).parent.glob(pattern)), f"{package}: no {pattern}"


def test_parts_import_one_way():
    wrong = [
        f"{relative(source)} imports {name}"
        for source in list_sources()
        for name in imported_names(source)
        if forbidden_import(part_of(source), name)
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("importer", "name", "forbidden"),
    [
        ("nightingale_hub", "nightingale_hub.spawner.TerraformSpawner", True),
        ("services/billing", "nightingale_hub.services.audit.batch", True),
        ("services/billing", "nightingale_hub.terraform.runner", True),
        ("services/supervisor", "nightingale_hub.terraform.runner", False),
        ("services/billing", "nightingale_hub.services.billing.ledger", False),
        ("spawner", "nightingale_hub.instances.State", False),
    ],
)
def test_the_arrows_are_told_apart(importer, name, forbidden):
    assert forbidden_import(importer, name) is forbidden


@pytest.mark.parametrize(
    "module",
    ["nightingale_hub", "nightingale_hub.instance.agent", "nightingale_hub.fuse_audit.__main__"],
)
def test_an_instance_runs_its_parts_without_jupyterhub(module, tmp_path):
    code = (
        f"import sys; sys.modules['jupyterhub'] = None; import importlib as i; "
        f"i.import_module({module!r})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_no_product_file_is_too_long_to_hold_one_noun():
    long = {
        relative(source): count
        for source in list_sources()
        if (count := len(source.read_text().splitlines())) > MAX_FILE_LINES
    }
    assert long == {}


def test_no_function_is_too_long_to_read_at_once():
    long = []
    for source in list_sources():
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    long.append(f"{relative(source)}: {node.name} has {lines} lines")
    assert long == []


def test_no_file_is_named_for_nothing():
    vague = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}
    assert [relative(s) for s in list_sources() if s.stem in vague] == []


def test_nothing_committed_names_this_machine_or_a_registry():
    # Written in pieces, so that this file does not find itself.
    registries = (
        "registry." + "npmjs",
        "pypi" + ".org",
        "files.python" + "hosted",
        "deb." + "debian",
    )
    machine = re.compile(
        "|".join([re.escape(str(ROOT)), "/ro" + "ot/", *map(re.escape, registries)])
    )
    found = []
    for path in list_files(ROOT):
        try:
            text = (ROOT / path).read_text()
        except UnicodeDecodeError:
            continue  # a picture
        found += [f"{path}: {match[0]}" for match in machine.finditer(text)]
    assert found == []
