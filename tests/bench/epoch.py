"""One epoch of training, in an environment that has torch and h5py: `epoch.py LOADER SOURCE`.

LOADER is `images` (JPEG files) or `slices` (random 64 KiB of one HDF5 data set). It prints the
seconds.
"""

# mypy: ignore-errors
# Torch is not where types are checked.

import json
import os
import random
import sys
import time

import h5py
import numpy
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

BATCH = 32
WORKERS = 4
STEP_S = 0.05
SLICE = 64 << 10
SLICES = 3200
TABLE = "table.h5"


class Images(Dataset):
    """Image files, decoded."""

    def __init__(self, source: str) -> None:
        folder = os.path.join(source, "images")
        self._paths = sorted(os.path.join(folder, name) for name in os.listdir(folder))

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        with Image.open(self._paths[index]) as image:
            return torch.from_numpy(numpy.array(image)).permute(2, 0, 1).float()


class Slices(Dataset):
    """64 KiB anywhere in one HDF5 data set."""

    def __init__(self, source: str) -> None:
        self._path = os.path.join(source, TABLE)
        self._file: h5py.File | None = None
        rng = random.Random(3)
        with h5py.File(self._path) as file:
            most = file["values"].shape[0] - SLICE
        self._starts = [rng.randrange(most) for _ in range(SLICES)]

    def __len__(self) -> int:
        return SLICES

    def __getitem__(self, index: int) -> torch.Tensor:
        if self._file is None:  # In the worker: an open HDF5 file outlives no fork.
            self._file = h5py.File(self._path)
        start = self._starts[index]
        return torch.from_numpy(self._file["values"][start : start + SLICE]).float()


def run_epoch(dataset: Dataset) -> float:
    """Return the seconds of one epoch: a small model's step, and the rest of a GPU's 50 ms."""
    torch.set_num_threads(1)
    torch.manual_seed(1)
    loader = DataLoader(dataset, batch_size=BATCH, num_workers=WORKERS, shuffle=True)
    weight = torch.zeros(16, requires_grad=True)
    started = time.perf_counter()
    for batch in loader:
        step_ends = time.perf_counter() + STEP_S
        loss = ((batch.flatten(1)[:, :16] / 255) @ weight - 1).square().mean()
        loss.backward()
        with torch.no_grad():
            weight -= 0.01 * weight.grad
            weight.grad.zero_()
        time.sleep(max(0.0, step_ends - time.perf_counter()))
    return time.perf_counter() - started


if __name__ == "__main__":
    _, kind, source = sys.argv
    chosen = Images(source) if kind == "images" else Slices(source)
    print(json.dumps({"seconds": run_epoch(chosen)}))
