"""Instance types of the clouds and which of them covers a size; what they cost is billing's.

A size names, per resource, the least that is wanted. Shapes come from types.csv, as the clouds
publish them; a type that is not there is not used.
"""

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TYPES = Path(__file__).with_name("types.csv")
VCPUS = {"S": 1, "M": 2, "L": 4, "XL": 8}
# How many GPUs, and the GiB of memory that each has.
GPUS = {"none": (0, 0), "S": (1, 16), "M": (1, 24), "L": (1, 48), "XL": (1, 80), "XXL": (8, 40)}
DISK_GIB = {"S": 10, "M": 50, "L": 200}
# The common combinations by name: cpu, gpu, disk.
PRESETS = {
    "notebook": ("S", "none", "S"),
    "analysis": ("XL", "none", "M"),
    "small training": ("L", "S", "M"),
    "training": ("XL", "M", "M"),
    "large training": ("XL", "XL", "L"),
    "eight GPUs": ("XL", "XXL", "L"),
}


@dataclass(frozen=True)
class InstanceType:
    """One type of one cloud: what it has."""

    cloud: str
    name: str
    vcpus: int
    ram_gib: int
    gpu: str
    gpus: int
    gpu_memory_gib: int  # of each

    def covers(self, cpu: str, gpu: str) -> bool:
        """Tell whether it has at least what the letters *cpu* and *gpu* say.

        One without a GPU covers none but `none`, and one with a GPU covers `none` too.
        """
        count, memory_gib = GPUS[gpu]
        has_gpus = self.gpus >= count and (count == 0 or self.gpu_memory_gib >= memory_gib)
        return self.vcpus >= VCPUS[cpu] and has_gpus

    def __str__(self) -> str:
        """Read as `g5.xlarge: 4 vCPUs, 16 GiB RAM, 1 x A10G 24 GiB`."""
        gpu = f", {self.gpus} x {self.gpu} {self.gpu_memory_gib} GiB" if self.gpus else ""
        return f"{self.name}: {self.vcpus} vCPUs, {self.ram_gib} GiB RAM{gpu}"


@cache
def list_types(cloud: str) -> tuple[InstanceType, ...]:
    """Return the types of *cloud*, smaller ones first; empty for one that has none."""
    with TYPES.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return tuple(
        InstanceType(
            row["cloud"],
            row["instance_type"],
            int(row["vcpus"]),
            int(row["ram_gib"]),
            row["gpu"],
            int(row["gpus"]),
            int(row["gpu_memory_gib"]),
        )
        for row in rows
        if row["cloud"] == cloud
    )


def find_type(cloud: str, name: str) -> InstanceType | None:
    """Return the type *name* of *cloud*, or None when the catalogue has none."""
    return next((each for each in list_types(cloud) if each.name == name), None)


def count_vcpus(cloud: str, instance_type: str, cpu: str) -> int:
    """Return how many vCPUs an instance has: its type's, or on this machine its letter's."""
    known = find_type(cloud, instance_type)
    return VCPUS[cpu] if known is None else known.vcpus


def list_nearest(cpu: str, gpu: str) -> list[tuple[str, str]]:
    """Return every combination of letters, the nearest to *cpu* and *gpu* first.

    A GPU that is another is further away than a CPU: it decides what can be computed at all.
    """
    cpus, gpus = list(VCPUS), list(GPUS)

    def distance(pair: tuple[str, str]) -> tuple[int, int]:
        by_cpu = abs(cpus.index(pair[0]) - cpus.index(cpu))
        by_gpu = abs(gpus.index(pair[1]) - gpus.index(gpu))
        return by_cpu + 2 * by_gpu, by_cpu

    return sorted(((each, one) for each in cpus for one in gpus), key=distance)
