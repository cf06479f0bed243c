"""What an epoch of training costs under `strict`, beside the same epoch on the directory itself.

Real loaders: PyTorch's DataLoader over image files, and h5py over one file. The model is a stand-in
for a GPU's: it takes 50 ms a batch, in which the loader works ahead. Torch and h5py live in an
environment of their own, made once, so that nobody else has to install them.
"""

import hashlib
import io
import json
import os
import random
import subprocess
import sys
import tempfile
import tomllib
from contextlib import ExitStack
from pathlib import Path

from PIL import Image

from tests.bench.frame import Figure, Report
from tests.bench.statistics import ratios
from tests.bench.workloads import write_files

IMAGES = 20_000
IMAGE_BYTES = 20 << 10
TABLE_BYTES = 256 << 20
# Each pair is one epoch on the directory and one through the mount.
PAIRS = 2
# An epoch may take this much longer.
AT_MOST = 1.05
EPOCH_WITHIN_S = 300
_ROOT = Path(__file__).parents[2]
_VENV = _ROOT / "build" / "bench" / "venv"


def run(quick: bool) -> Report:
    """Measure by itself what `bin/bench audit` measures too, at its end."""
    report = Report("training")
    with tempfile.TemporaryDirectory(prefix="nightingale-bench-") as folder:
        count, pairs = (IMAGES // 20, 1) if quick else (IMAGES, PAIRS)
        report.figures = measure(report, Path(folder), count, pairs)
    return report


def measure(report: Report, place: Path, images: int = IMAGES, pairs: int = PAIRS) -> list[Figure]:
    """Measure both loaders below *place*; what is in the way is an error of *report*."""
    from tests.bench.audit import mount

    try:
        python = ensure_environment()
    except (OSError, subprocess.CalledProcessError) as error:
        report.errors.append(f"no training loop was run: {error}")
        return []
    data = place / "training"
    make_images(data / "images", images)
    make_table(python, data / "table.h5")
    figures = []
    with ExitStack() as stack:
        top = mount(stack, place / "trained", data, "strict").top
        for loader in ("images", "slices"):
            seconds: dict[Path, list[float]] = {data: [], top: []}
            for pair in range(pairs):
                for source in random.Random(pair).sample([data, top], k=2):
                    seconds[source].append(run_epoch(python, loader, source))
            figures.append(
                Figure(
                    f"epoch of {loader}: strict / raw",
                    "ratio",
                    ratios(seconds[top], seconds[data]),
                    at_most=AT_MOST,
                )
            )
            figures.append(Figure(f"epoch of {loader}: raw", "s", seconds[data]))
    return figures


def ensure_environment() -> Path:
    """Return a Python that has torch and h5py, in the versions of constraints.txt."""
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text())
    wanted = project["dependency-groups"]["bench"]
    constraints = _ROOT / "constraints.txt"
    stamp = hashlib.sha256(constraints.read_bytes() + repr(wanted).encode()).hexdigest()
    python, mark = _VENV / "bin" / "python", _VENV / "stamp"
    if not mark.exists() or mark.read_text() != stamp:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(_VENV)], check=True)
        environment = {**os.environ, "PIP_CONSTRAINT": str(constraints)}
        command = [str(python), "-m", "pip", "install", "--quiet", *wanted]
        subprocess.run(command, check=True, env=environment)
        mark.write_text(stamp)
    return python


def make_images(folder: Path, count: int) -> None:
    """Write *count* JPEG files of 20 KiB into *folder*."""
    rng = random.Random(9)
    pictures = []
    for _ in range(20):
        picture = Image.frombytes("L", (160, 160), rng.randbytes(160 * 160)).convert("RGB")
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=60)
        # What stands behind the end of a JPEG is not read by anybody.
        pictures.append(file.getvalue().ljust(IMAGE_BYTES, b"\0"))
    for _ in write_files(folder, count, lambda number: pictures[number % len(pictures)]):
        pass


def make_table(python: Path, path: Path) -> None:
    """Write an HDF5 file of one data set of bytes."""
    script = (
        "import sys, h5py, numpy; file = h5py.File(sys.argv[1], 'w'); "
        "values = numpy.random.default_rng(5).integers(0, 256, int(sys.argv[2]), numpy.uint8); "
        "file.create_dataset('values', data=values)"
    )
    subprocess.run([str(python), "-c", script, str(path), str(TABLE_BYTES)], check=True)


def run_epoch(python: Path, loader: str, source: Path) -> float:
    """Return the seconds of one epoch of *loader* over *source*."""
    command = [str(python), str(Path(__file__).with_name("epoch.py")), loader, str(source)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=EPOCH_WITHIN_S, check=False
    )
    if done.returncode:
        raise OSError(f"the epoch of {loader} over {source} failed: {done.stderr[-500:]}")
    return float(json.loads(done.stdout)["seconds"])
