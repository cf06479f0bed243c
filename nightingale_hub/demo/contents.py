"""The real data of the demo, taken from packages that are installed anyway; nothing is fetched.

Each function fills an empty directory. Whole and unchanged: files keep the folders and names that
they have in their package.
"""

import csv
import shutil
from importlib.util import find_spec
from pathlib import Path

from nightingale_hub.errors import NotFound

_NOTES = {"README.txt", "README.md", "README", "FileInfo.txt"}


def list_dicom_files() -> list[Path]:
    """Return every DICOM file that the pydicom wheel carries, broken ones included."""
    return sorted(path for path in _pydicom_data().rglob("*") if path.is_file() and _is_dicom(path))


def fill_dicom(directory: Path) -> None:
    """Copy pydicom's DICOM files, and the notes that describe them, to *directory*."""
    root = _pydicom_data()
    notes = [path for path in root.rglob("*") if path.name in _NOTES]
    for path in [*list_dicom_files(), *notes]:
        target = directory / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def fill_breast_cancer(directory: Path) -> None:
    """Write scikit-learn's Wisconsin table as wdbc.csv, with the text that describes it.

    30 features to a row, in scikit-learn's names and order, then `is_benign`, 0 or 1.
    """
    from sklearn.datasets import load_breast_cancer

    bunch = load_breast_cancer()
    with (directory / "wdbc.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*bunch.feature_names, "is_benign"])
        for features, is_benign in zip(bunch.data.tolist(), bunch.target.tolist(), strict=True):
            writer.writerow([*features, is_benign])
    (directory / "README.txt").write_text(bunch.DESCR, encoding="utf-8")


def _pydicom_data() -> Path:
    spec = find_spec("pydicom")
    if spec is None or spec.origin is None:
        raise NotFound("the package pydicom is not installed; run bin/setup")
    return Path(spec.origin).parent / "data"


def _is_dicom(path: Path) -> bool:
    # Part 10 of the standard: 128 bytes of anything, then the word. Old files lack both.
    # ref: https://dicom.nema.org/medical/dicom/current/output/chtml/part10/chapter_7.html
    with path.open("rb") as file:
        return path.suffix == ".dcm" or file.read(132)[128:] == b"DICM"
