"""The demo's datasets: filled once, served from read-only ZFS where that is to be had.

They lie under a directory of mode 0700, so that only the audit mount reaches them.
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from sqlalchemy import Connection

from nightingale_hub.datasets import EVERYONE, Dataset, ensure_dataset, grant
from nightingale_hub.demo.contents import fill_breast_cancer, fill_dicom
from nightingale_hub.demo.zfs import Pool, create_pool, destroy_pool, find_pool
from nightingale_hub.durable import save_text
from nightingale_hub.errors import MountRefused

_LAYOUT = 1  # one more whenever a fill function changes what it writes


@dataclass(frozen=True)
class DemoDataset:
    """A dataset, how it is described to a researcher, and what fills an empty directory with it."""

    name: str
    title: str
    description: str
    terms: str
    package: str
    fill: Callable[[Path], None]

    def edition(self) -> str:
        """Return what it is filled from; another edition is filled anew."""
        return f"{self.package}-{version(self.package)}-{_LAYOUT}"


@dataclass(frozen=True)
class SeedResult:
    """Where each dataset is, on what (`zfs`, `zfs-fuse` or `directory`), and what to say of it."""

    paths: dict[str, Path]
    kind: str
    notes: list[str]


DEMO_DATASETS = (
    DemoDataset(
        name="dicom",
        title="DICOM samples",
        description=(
            "Images, waveforms, structured reports and radiotherapy objects in DICOM, one or a few "
            "of each kind: CT, MR, CR, ultrasound, nuclear medicine, segmentation, 12-lead ECG, "
            "dose and plan, in the common transfer syntaxes, with some broken files that a robust "
            "reader must survive. They are the files that the pydicom package carries; patients "
            "are anonymous or invented."
        ),
        terms="Distributed with pydicom under the MIT licence; for teaching and testing.",
        package="pydicom",
        fill=fill_dicom,
    ),
    DemoDataset(
        name="breast-cancer",
        title="Breast Cancer Wisconsin (Diagnostic)",
        description=(
            "569 fine-needle aspirates of breast masses, 357 benign and 212 malignant: 30 measures "
            "of the cell nuclei in a digitised image of each, by Wolberg, Street and Mangasarian, "
            "University of Wisconsin, 1995. The table is the copy in scikit-learn."
        ),
        terms="UCI Machine Learning Repository, CC BY 4.0; cite Wolberg, Street and Mangasarian.",
        package="scikit-learn",
        fill=fill_breast_cancer,
    ),
)


def ensure_datasets(base: Path) -> SeedResult:
    """Fill every demo dataset below the directory *base* and serve it; whole or not at all.

    On ZFS when this machine has it, else as plain directories, and the notes say why.
    """
    base.mkdir(parents=True, exist_ok=True)
    base.chmod(0o700)
    filled = {each.name: _ensure_filled(base, each) for each in DEMO_DATASETS}
    try:
        pool = _ensure_pool(base, filled)
    except MountRefused as reason:
        note = f"demo datasets are plain directories, not read-only ZFS: {reason}"
        return SeedResult(filled, "directory", [note])
    paths = {name: pool.path_of(name) for name in filled}
    return SeedResult(paths, pool.kind, [f"demo datasets are on read-only ZFS ({pool.kind})"])


def register_datasets(conn: Connection, seed: SeedResult, at_us: int) -> None:
    """Describe each demo dataset to the hub, where *seed* put it, and grant it to everyone."""
    for each in DEMO_DATASETS:
        path = str(seed.paths[each.name])
        ensure_dataset(conn, Dataset(each.name, each.title, each.description, each.terms, path))
        grant(conn, each.name, EVERYONE, at_us)


def release_datasets(base: Path) -> None:
    """Take down what `ensure_datasets` mounted and started; what was filled stays for next time.

    Raises `Unavailable` when something still reads a dataset after 10 s.
    """
    destroy_pool(base)


def _ensure_filled(base: Path, described: DemoDataset) -> Path:
    target = base / "filled" / described.name
    stamp = target.with_name(f"{described.name}.edition")
    if stamp.exists() and stamp.read_text() == described.edition():
        return target
    stamp.unlink(missing_ok=True)
    draft = target.with_name(f".{described.name}.new")
    for stale in (draft, target):
        shutil.rmtree(stale, ignore_errors=True)
    draft.mkdir(parents=True)
    described.fill(draft)
    _open_to_readers(draft)
    draft.rename(target)
    save_text(stamp, described.edition())
    return target


def _open_to_readers(directory: Path) -> None:
    directory.chmod(0o755)
    for folder, folders, files in os.walk(directory):
        for name in folders:
            Path(folder, name).chmod(0o755)
        for name in files:
            Path(folder, name).chmod(0o644)


def _ensure_pool(base: Path, filled: dict[str, Path]) -> Pool:
    editions = {each.name: each.edition() for each in DEMO_DATASETS}
    pool = find_pool(base)
    if pool is not None and all(pool.find_edition(n) == editions[n] for n in filled):
        return pool
    pool = create_pool(base)
    try:
        for name, source in filled.items():
            pool.add(name, source, editions[name])
    except BaseException:
        destroy_pool(base)
        raise
    return pool
