"""What the demo's researcher runs: a model trained on files read through the audit mount.

It counts what it reads, so that the journey can hold the audit log against it. In a terminal of
the instance: `python -m nightingale_hub.demo.training`.
"""

import csv
import io
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TypedDict

from nightingale_hub.errors import Unavailable
from nightingale_hub.instance.training import list_files

COUNTED_WITHIN_S = 60.0


class Training(TypedDict):
    """What was read, by path below the mount, and what came of it."""

    sizes: dict[str, int]  # bytes read per file
    accuracy: float  # share of held-out tumours told right
    images: int  # DICOM files that hold a patient's image or record
    modalities: dict[str, int]


def train(mount: Path, files: Iterable[Path]) -> Training:
    """Read each of *files* below *mount* once and fit a classifier.

    The model tells malignant from benign tumours of the Wisconsin table (569 rows of 30 features).
    Needs numpy, scikit-learn and pydicom.
    """
    read = {str(path.relative_to(mount)): path.read_bytes() for path in files}
    images, modalities = _count_images(read)
    return Training(
        sizes={path: len(content) for path, content in read.items()},
        accuracy=_fit(read["breast-cancer/wdbc.csv"]),
        images=images,
        modalities=modalities,
    )


def _fit(table: bytes) -> float:
    import numpy as np
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rows = list(csv.reader(io.StringIO(table.decode())))
    values = np.array(rows[1:], dtype=float)
    features, is_benign = values[:, :-1], values[:, -1].astype(int)
    parts = train_test_split(features, is_benign, test_size=0.25, random_state=0)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    model.fit(parts[0], parts[2])
    return float(model.score(parts[1], parts[3]))


def _count_images(read: dict[str, bytes]) -> tuple[int, dict[str, int]]:
    import pydicom
    from pydicom.errors import InvalidDicomError

    modalities: dict[str, int] = {}
    for path, content in read.items():
        if not path.startswith("dicom/"):
            continue
        try:
            header = pydicom.dcmread(io.BytesIO(content), stop_before_pixels=True)
        except (InvalidDicomError, EOFError, ValueError, KeyError):
            continue  # the wheel's files hold broken ones on purpose
        modality = str(header.get("Modality", "unknown"))
        modalities[modality] = modalities.get(modality, 0) + 1
    return sum(modalities.values()), modalities


def list_all_files() -> list[Path]:
    """Return the files of the demo's datasets; waits a minute at most until they are counted."""
    deadline = time.monotonic() + COUNTED_WITHIN_S
    while True:
        try:
            return [*list_files("breast-cancer"), *list_files("dicom")]
        except Unavailable:
            if time.monotonic() > deadline:
                raise
        time.sleep(1)


if __name__ == "__main__":
    print(json.dumps(train(Path(os.environ["NIGHTINGALE_DATASETS"]), list_all_files())))
