"""The demo's datasets are the real ones, whole, and nobody can write to them."""

import csv
import errno
import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from importlib.metadata import files
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer

from nightingale_hub.demo import datasets, zfs, zfs_daemon
from nightingale_hub.demo.contents import fill_breast_cancer, fill_dicom, list_dicom_files
from nightingale_hub.demo.datasets import DEMO_DATASETS, ensure_datasets, release_datasets
from nightingale_hub.errors import MountRefused, Unavailable
from nightingale_hub.processes import list_marked

needs_zfs_fuse = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("zfs-fuse", path="/usr/sbin:/sbin") is None,
    reason="a pool needs root and Debian's zfs-fuse",
)


@pytest.fixture
def base(tmp_path) -> Iterator[Path]:
    """A place for datasets, after which nothing of them runs or is mounted."""
    base = tmp_path / "data sets é"
    yield base
    release_datasets(base)
    assert zfs_daemon.list_mounts(base) == []
    assert list_marked("NIGHTINGALE_ZFS_SHARE", str(base / "zfs")) == []


@pytest.fixture
def without_zfs(monkeypatch):
    """A machine on which no pool can be made."""

    def refuse(_base: Path) -> zfs.Pool:
        raise MountRefused("zfs-fuse needs root")

    monkeypatch.setattr(datasets, "create_pool", refuse)


def wait_until(is_so: Callable[[], bool], limit_s: float = 5.0) -> None:
    deadline = time.monotonic() + limit_s
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def digests(directory: Path) -> dict[str, str]:
    """Return the SHA-256 of each file below *directory*, by its relative path."""
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_every_dicom_file_of_the_wheel_is_there_unchanged(tmp_path):
    fill_dicom(tmp_path)
    shipped = {
        str(path).removeprefix("pydicom/data/"): Path(path.locate()).read_bytes()
        for path in files("pydicom") or []
        if str(path).startswith("pydicom/data/")
    }
    dicom = {
        name: content
        for name, content in shipped.items()
        if name.endswith(".dcm") or content[128:132] == b"DICM"
    }
    assert len(dicom) > 150
    assert len(list_dicom_files()) == len(dicom)
    for name, content in dicom.items():
        assert (tmp_path / name).read_bytes() == content, name
    others = digests(tmp_path).keys() - dicom.keys()
    assert {Path(name).stem for name in others} == {"README", "FileInfo"}


def test_the_table_holds_exactly_what_scikit_learn_holds(tmp_path):
    fill_breast_cancer(tmp_path)
    header, *rows = csv.reader((tmp_path / "wdbc.csv").read_text().splitlines())
    bunch = load_breast_cancer()
    assert header == [*bunch.feature_names, "is_benign"]
    values = np.array(rows, dtype=float)
    assert np.array_equal(values[:, :-1], bunch.data)
    assert np.array_equal(values[:, -1], bunch.target)
    assert "Wolberg" in (tmp_path / "README.txt").read_text()


def test_without_zfs_they_are_directories_and_the_note_says_why(base, without_zfs):
    result = ensure_datasets(base)
    assert result.kind == "directory"
    assert result.notes == [
        "demo datasets are plain directories, not read-only ZFS: zfs-fuse needs root"
    ]
    assert result.paths.keys() == {each.name for each in DEMO_DATASETS}
    assert len(list_dicom_files()) < len(digests(result.paths["dicom"]))


def test_only_the_owner_reaches_them_and_the_audit_mount_may_show_them_to_all(base, without_zfs):
    result = ensure_datasets(base)
    assert base.stat().st_mode & 0o777 == 0o700
    for path in result.paths.values():
        for each in [path, *path.rglob("*")]:
            assert each.stat().st_mode & 0o777 == (0o755 if each.is_dir() else 0o644), each


def test_a_second_call_fills_nothing_again(base, without_zfs, monkeypatch):
    first = ensure_datasets(base)
    before = {path: path.stat().st_mtime_ns for path in base.rglob("*")}
    assert ensure_datasets(base) == first
    assert {path: path.stat().st_mtime_ns for path in base.rglob("*")} == before


def test_a_fill_that_was_interrupted_is_repaired(base, without_zfs):
    whole = {name: digests(path) for name, path in ensure_datasets(base).paths.items()}
    filled = base / "filled"
    (filled / "dicom.edition").unlink()  # killed before the fill was marked as whole
    (filled / "dicom" / "test_files" / "CT_small.dcm").unlink()
    (filled / ".breast-cancer.new").mkdir()  # killed half-way
    (filled / ".breast-cancer.new" / "wdbc.csv").write_text("half")
    shutil.rmtree(filled / "breast-cancer")
    (filled / "breast-cancer.edition").unlink()
    result = ensure_datasets(base)
    assert {name: digests(path) for name, path in result.paths.items()} == whole


def test_another_edition_is_filled_anew(base, without_zfs, monkeypatch):
    result = ensure_datasets(base)
    stray = result.paths["dicom"] / "left-by-an-older-edition.dcm"
    stray.write_bytes(b"")
    monkeypatch.setattr(datasets, "_LAYOUT", 999)
    ensure_datasets(base)
    assert not stray.exists()


@needs_zfs_fuse
def test_on_zfs_root_gets_erofs_from_every_way_to_write(base):
    result = ensure_datasets(base)
    assert result.kind in ("zfs", "zfs-fuse")
    image = result.paths["dicom"] / "test_files" / "CT_small.dcm"
    before = image.read_bytes()
    writes = {
        "append": lambda: os.open(image, os.O_WRONLY | os.O_APPEND),
        "overwrite": lambda: os.open(image, os.O_RDWR),
        "truncate": lambda: os.truncate(image, 0),
        "create": lambda: os.open(image.with_name("new"), os.O_WRONLY | os.O_CREAT),
        "delete": lambda: os.unlink(image),
        "rename": lambda: os.rename(image, image.with_name("other")),
        "mode": lambda: os.chmod(image, 0o777),
        "folder": lambda: os.mkdir(image.with_name("folder")),
    }
    for name, write in writes.items():
        with pytest.raises(OSError) as refusal:
            write()
        assert refusal.value.errno == errno.EROFS, name
    assert image.read_bytes() == before
    assert digests(result.paths["dicom"]) == digests(base / "filled" / "dicom")


@needs_zfs_fuse
def test_on_zfs_a_second_call_keeps_the_pool_and_its_daemon(base):
    first = ensure_datasets(base)
    daemon = zfs_daemon.find_daemon(base / "zfs")
    assert ensure_datasets(base) == first
    assert zfs_daemon.find_daemon(base / "zfs") == daemon


@needs_zfs_fuse
def test_a_pool_whose_daemon_was_killed_is_made_anew(base):
    ensure_datasets(base)
    daemon = zfs_daemon.find_daemon(base / "zfs")
    assert daemon is not None
    os.kill(daemon.pid, 9)
    result = ensure_datasets(base)
    assert digests(result.paths["breast-cancer"]) == digests(base / "filled" / "breast-cancer")


@needs_zfs_fuse
def test_a_dataset_that_was_not_sealed_is_made_anew(base):
    ensure_datasets(base)
    pool = zfs.find_pool(base)
    assert pool is not None
    pool._zfs("inherit", zfs._EDITION, pool._full("dicom"))  # killed just before the seal
    result = ensure_datasets(base)
    assert digests(result.paths["dicom"]) == digests(base / "filled" / "dicom")
    pool = zfs.find_pool(base)
    assert pool is not None
    assert pool.find_edition("dicom") == DEMO_DATASETS[0].edition()


@needs_zfs_fuse
def test_release_waits_for_the_last_reader_and_says_so(base, monkeypatch):
    monkeypatch.setattr(zfs, "RELEASE_WITHIN_S", 0.5)
    result = ensure_datasets(base)
    with (result.paths["dicom"] / "test_files" / "CT_small.dcm").open("rb") as reader:
        with pytest.raises(Unavailable, match="end what still reads it"):
            release_datasets(base)
        assert reader.read(4096)[128:132] == b"DICM"  # and took nothing from under them
    release_datasets(base)
    assert zfs_daemon.list_mounts(base) == []


@needs_zfs_fuse
def test_the_machine_sees_the_mounts_but_not_the_daemon(base):
    ensure_datasets(base)
    table = Path("/proc/self/mountinfo").read_text()
    assert "fuse.zfs" in table
    assert not Path("/run/zfs/zfs_socket").exists()
    daemon = zfs_daemon.find_daemon(base / "zfs")
    assert daemon is not None
    inside = zfs_daemon.run(["ls", "/run/zfs"], daemon)
    assert "zfs_socket" in inside


@needs_zfs_fuse
@pytest.mark.skipif(shutil.which("bindfs") is None, reason="needs another FUSE mount: bindfs")
def test_the_daemon_keeps_no_mount_of_another_alive(base, tmp_path):
    there, here = tmp_path / "there", tmp_path / "he re"
    there.mkdir()
    here.mkdir()
    other = subprocess.Popen(["bindfs", "-f", str(there), str(here)])
    try:
        wait_until(lambda: str(here) in zfs_daemon.list_mounts(here))
        ensure_datasets(base)
        subprocess.run(["umount", str(here)], check=True)
        assert other.wait(timeout=5) == 0
    finally:
        other.kill()
        other.wait()


@needs_zfs_fuse
def test_where_zfs_is_not_installed_the_note_says_what_to_install(base, monkeypatch):
    monkeypatch.setattr(zfs_daemon, "_NEEDED", ("zfs-fuse-of-nobody",))
    result = ensure_datasets(base)
    assert result.kind == "directory"
    assert "zfs-fuse-of-nobody not installed; try: apt-get install zfs-fuse" in result.notes[0]


@needs_zfs_fuse
def test_a_half_made_pool_is_taken_away_before_the_directories_are_served(base, monkeypatch):
    def fail(self: zfs.Pool, name: str, source: Path, edition: str) -> Path:
        raise MountRefused("the disk is full")

    monkeypatch.setattr(zfs.Pool, "add", fail)
    result = ensure_datasets(base)
    assert result.kind == "directory"
    assert "the disk is full" in result.notes[0]
    assert zfs_daemon.list_mounts(base) == []
    assert zfs_daemon.find_daemon(base / "zfs") is None


@needs_zfs_fuse
def test_a_disk_too_small_for_a_pool_serves_directories_and_hangs_nothing(tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(small)], check=True)
    try:
        result = ensure_datasets(small / "datasets")
        assert result.kind == "directory"
        assert "no 64 MiB left for a ZFS pool" in result.notes[0]
        assert zfs_daemon.find_daemon(small / "datasets" / "zfs") is None
    finally:
        release_datasets(small / "datasets")
        subprocess.run(["umount", str(small)], check=True)
