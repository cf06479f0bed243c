"""What bin/ makes before it runs: reachable by every user, repaired when half made, made once."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from environment import checkout, debian, packages
from environment.checkout import find_home, prune_copies, sync_copy
from environment.interpreter import is_open_to_all
from environment.packages import Stamp, ensure_environment, load_stamp, locked, save_stamp
from environment.progress import StepFailed

ROOT = Path(__file__).parent.parent
NOBODY = 65534

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root serves other system users")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The files that decide what is installed, for a product that needs nothing."""
    for name in packages._INPUTS:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# {name}\n")
    return tmp_path


@pytest.fixture
def made(monkeypatch) -> list[str]:
    """Records what would be made, in place of the minute that making it takes."""
    steps: list[str] = []

    def make_venv(venv: Path) -> None:
        steps.append("venv")
        venv.mkdir(exist_ok=True)

    def install(home: Path, venv: Path, groups: set[str]) -> None:
        assert load_stamp(venv) is None, "an environment that is being changed has no stamp"
        steps.append("+".join(sorted(groups)))

    monkeypatch.setattr(packages, "_make_venv", make_venv)
    monkeypatch.setattr(packages, "_install_packages", install)
    monkeypatch.setattr(debian, "list_wanted", lambda groups: [])
    return steps


@as_root
def test_another_system_user_can_run_this_environment(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", "import nightingale_hub.spawner, nightingale_hub.fuse_audit"],
        cwd="/",
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        env={"PATH": os.defpath, "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_a_closed_directory_anywhere_above_closes_what_is_in_it(tmp_path):
    shelf = Path("/tmp")
    with_all = shelf / f"open-{os.getpid()}"
    inner = with_all / "a" / "b"
    inner.mkdir(parents=True)
    try:
        for each in (with_all, with_all / "a", inner):
            each.chmod(0o755)
        assert is_open_to_all(inner)
        (with_all / "a").chmod(0o700)
        assert not is_open_to_all(inner)
        link = shelf / f"link-{os.getpid()}"
        link.symlink_to(inner)
        assert not is_open_to_all(link), "it is the real path that counts"
        link.unlink()
    finally:
        (with_all / "a").chmod(0o755)
        inner.rmdir()
        (with_all / "a").rmdir()
        with_all.rmdir()


@as_root
def test_a_closed_checkout_runs_from_one_copy_and_an_open_one_from_itself(tmp_path, monkeypatch):
    tmp_path.chmod(0o700)
    home = find_home(tmp_path)
    assert home.parent == checkout.COPIES
    assert find_home(tmp_path) == home
    assert find_home(Path("/usr/lib")) == Path("/usr/lib")


def test_a_copy_follows_its_checkout_and_keeps_its_own(tmp_path):
    root, home = tmp_path / "root", tmp_path / "home"
    (root / "bin").mkdir(parents=True)
    (root / "bin" / "run").write_text("#!/bin/sh\n")
    (root / "bin" / "run").chmod(0o700)
    (root / "secret.py").write_text("1\n")
    (root / "secret.py").chmod(0o600)
    (root / ".git").mkdir()
    (root / ".git" / "HEAD").write_text("ref")
    assert sync_copy(root, home) == 2
    assert (home / "bin" / "run").stat().st_mode & 0o777 == 0o755
    assert (home / "secret.py").stat().st_mode & 0o777 == 0o644
    assert not (home / ".git").exists()
    (home / ".venv").mkdir()
    (home / ".venv" / "kept").write_text("")
    assert sync_copy(root, home) == 0
    (root / "secret.py").write_text("22\n")
    (root / "bin" / "run").unlink()
    assert sync_copy(root, home) == 2
    assert (home / "secret.py").read_text() == "22\n"
    assert not (home / "bin" / "run").exists()
    assert (home / ".venv" / "kept").exists()


def test_a_copy_whose_checkout_is_gone_is_deleted_unless_it_is_in_use(tmp_path):
    copies = {name: tmp_path / "copies" / name for name in ("kept", "gone", "busy", "demo")}
    for name, copy in copies.items():
        root = tmp_path / name
        root.mkdir()
        (root / "file").write_text(name)
        sync_copy(root, copy)
        if name != "kept":
            (root / "file").unlink()
            root.rmdir()
    (tmp_path / "copies" / "homes").mkdir()  # a hub's state may stand beside them
    (copies["demo"] / ".demo").mkdir()
    with locked(copies["busy"]):
        assert prune_copies(tmp_path / "copies") == [copies["gone"]]
    left = {path.name for path in (tmp_path / "copies").iterdir()}
    assert left == {"kept", "busy", "demo", "homes"}


def test_an_environment_is_made_once(project, made):
    ensure_environment(project, {"demo"})
    ensure_environment(project, {"demo"})
    assert made == ["venv", "demo"]


def test_a_further_group_is_added_and_none_is_taken_away(project, made):
    ensure_environment(project, {"demo"})
    ensure_environment(project, {"demo", "test"})
    ensure_environment(project, {"demo"})
    assert made == ["venv", "demo", "demo+test"]


@pytest.mark.parametrize("name", packages._INPUTS)
def test_a_changed_input_installs_again_into_the_same_environment(project, made, name):
    ensure_environment(project, {"demo"})
    (project / name).write_text("changed")
    ensure_environment(project, {"demo"})
    assert made == ["venv", "demo", "demo"]


def test_an_interrupted_install_starts_from_an_empty_environment(project, made, monkeypatch):
    install = packages._install_packages

    def pip_that_is_interrupted(home: Path, venv: Path, groups: set[str]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(packages, "_install_packages", pip_that_is_interrupted)
    with pytest.raises(KeyboardInterrupt):
        ensure_environment(project, {"demo"})
    monkeypatch.setattr(packages, "_install_packages", install)
    ensure_environment(project, {"demo"})
    assert made == ["venv", "venv", "demo"]


@pytest.mark.parametrize("damage", ["{", "[]", '{"python": "3.11"}', ""])
def test_a_damaged_stamp_counts_as_none(tmp_path, damage):
    (tmp_path / "stamp.json").write_text(damage)
    assert load_stamp(tmp_path) is None


def test_another_python_makes_the_environment_anew(project, made):
    ensure_environment(project, {"demo"})
    stamp = load_stamp(project / ".venv")
    assert stamp is not None
    save_stamp(project / ".venv", Stamp("3.10.0 elsewhere", stamp.inputs, stamp.groups))
    ensure_environment(project, {"demo"})
    assert made == ["venv", "demo", "venv", "demo"]


def test_a_package_that_cannot_be_had_is_asked_for_once(project, made, monkeypatch):
    asked: list[str] = []

    def install(names: list[str], why: str) -> list[str]:
        asked.extend(names)
        return names

    ensure_environment(project, {"demo"})
    monkeypatch.setattr(debian, "list_wanted", lambda groups: ["zfs-fuse"])
    monkeypatch.setattr(debian, "install", install)
    ensure_environment(project, {"demo"})
    ensure_environment(project, {"demo"})
    assert asked == ["zfs-fuse"]
    assert made == ["venv", "demo"], "a Debian package changes no Python package"


def test_two_set_ups_of_one_checkout_take_turns(tmp_path):
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from environment.packages import locked\n"
        "with locked(Path(sys.argv[1])):\n"
        "    print('in', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "bin")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdout is not None and holder.stdin is not None
        assert holder.stdout.readline() == "in\n"
        second = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)],
            env={**os.environ, "PYTHONPATH": str(ROOT / "bin")},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        with second:
            assert second.stderr is not None
            assert "waiting for it" in second.stderr.readline()
            assert second.poll() is None
            released = time.monotonic()
            holder.stdin.close()
            assert second.wait(timeout=30) == 0
            assert time.monotonic() >= released
    with locked(tmp_path):
        pass


def test_packages_that_are_missing_are_named_with_the_command(monkeypatch, capsys):
    monkeypatch.setattr(debian, "find_root_command", lambda: None)
    assert debian.install(["fuse3", "zfs-fuse"], "the demo") == ["fuse3", "zfs-fuse"]
    assert "apt-get install fuse3 zfs-fuse" in capsys.readouterr().err


def test_one_package_that_is_not_to_be_had_does_not_keep_the_others_out(monkeypatch, capsys):
    tried: list[list[str]] = []

    def apt_without_zfs(as_root: list[str], names: list[str]) -> None:
        tried.append(names)
        if "zfs-fuse" in names:
            raise StepFailed("E: Unable to locate package zfs-fuse")

    monkeypatch.setattr(debian, "find_root_command", lambda: [])
    monkeypatch.setattr(debian, "_install_together", apt_without_zfs)
    assert debian.install(["fuse3", "zfs-fuse"], "the demo") == ["zfs-fuse"]
    assert tried == [["fuse3", "zfs-fuse"], ["fuse3"], ["zfs-fuse"]]
    assert "Unable to locate package zfs-fuse" in capsys.readouterr().err


def test_setup_takes_no_word_that_it_does_not_know():
    done = subprocess.run([ROOT / "bin" / "setup", "tests"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "usage: bin/setup [demo] [test]\n"


def test_the_demo_tells_its_use_before_anything_is_installed(tmp_path):
    bare = tmp_path / "bin"
    bare.mkdir()
    (bare / "demo").write_bytes((ROOT / "bin" / "demo").read_bytes())
    done = subprocess.run(["sh", bare / "demo", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.startswith("usage: bin/demo [--smoke")
    assert os.listdir(bare) == ["demo"]


def test_the_proxy_lock_names_no_host_and_every_package_has_its_digest():
    lock = json.loads((ROOT / "nightingale_hub" / "demo" / "package-lock.json").read_text())
    installed = {name: entry for name, entry in lock["packages"].items() if name}
    assert "node_modules/configurable-http-proxy" in installed
    for name, entry in installed.items():
        assert entry["integrity"].startswith("sha512-"), name
        assert not {"resolved", "funding", "hasInstallScript"} & entry.keys(), name
