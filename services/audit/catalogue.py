"""What the detectors are told of the datasets: their manifests, and who sees which honeyfiles.

Each dataset is measured anew once a day, where its directory is on this machine. One that nobody
can measure has no size, and the rules that need one say nothing of it: that is a finding.
"""

import asyncio
import logging
from collections.abc import Callable

from sqlalchemy import Connection, select

from nightingale_hub.clock import now_us
from nightingale_hub.findings import Severity, raise_finding
from nightingale_hub.manifest import find_manifest, is_listed, measure, parse_sizes, save_manifest
from nightingale_hub.manifest import unpack_lines as unpack
from nightingale_hub.service import Context
from nightingale_hub.services.audit.detect.catalogue import Catalogue, Extent
from nightingale_hub.tables.datasets import dataset
from nightingale_hub.tables.decoys import decoy, manifest

log = logging.getLogger("nightingale")
DAY_US = 86_400_000_000
MOST_SIZES = 2_000_000  # files whose size is kept in memory, over all datasets


class HubCatalogue(Catalogue):
    """The catalogue of one hub, as its database has it."""

    def __init__(self, context: Context, clock: Callable[[], int] = now_us) -> None:
        """Know nothing yet; `refresh` reads the database of *context*."""
        self._context = context
        self._clock = clock
        self._extents: dict[str, Extent] = {}
        self._sizes: dict[str, dict[str, int]] = {}
        self._measured: dict[str, str] = {}
        self._decoys: set[tuple[str, str, str]] = set()
        self._probes: set[tuple[str, str, str]] = set()
        self._newest_decoy = 0
        self._taken: set[tuple[str, str]] = set()  # by files that came to the dataset since

    def get_extent(self, dataset: str) -> Extent:
        """Return how large *dataset* is."""
        return self._extents.get(dataset, Extent())

    def find_size(self, dataset: str, path: str) -> int | None:
        """Return the size of a file, or None when it is unknown."""
        sizes = self._sizes.get(dataset)
        return None if sizes is None else sizes.get(path)

    def is_decoy(self, owner: str, dataset: str, path: str) -> bool:
        """Tell whether *path* is one of the honeyfiles that *owner* sees."""
        return (owner, dataset, path) in self._decoys and (dataset, path) not in self._taken

    def is_probe(self, owner: str, dataset: str, path: str) -> bool:
        """Tell whether *path* is the honeyfile that *owner*'s agent opens once a day."""
        return (owner, dataset, path) in self._probes

    async def refresh(self) -> None:
        """Take in what the database has that is new: before events are looked at, each time."""
        await self._context.read(self._load)

    async def measure_next(self) -> None:
        """Measure one dataset whose manifest is a day old, if there is one."""
        at_us = self._clock()
        row = await self._context.read(lambda conn: _find_stale(conn, at_us))
        if row is None:
            return
        name, path = row
        try:
            measured = await asyncio.to_thread(measure, path, name)
        except OSError as error:
            why = f"The dataset {name} cannot be measured: {error.strerror}. R3 and R4 are off."
            await self._context.write(lambda conn: _raise_unmeasured(conn, name, why, at_us))
            return
        await self._context.write(lambda conn: save_manifest(conn, name, measured, at_us))

    def _load(self, conn: Connection) -> None:
        marks = conn.execute(select(manifest.c.dataset, manifest.c.sha256)).all()
        for name, sha256 in marks:
            if self._measured.get(name) != sha256:
                self._load_manifest(conn, name, sha256)
        rows = conn.execute(select(decoy).where(decoy.c.id > self._newest_decoy))
        for row in rows:
            self._decoys.add((row.owner, row.dataset, row.path))
            if row.is_probe:
                self._probes.add((row.owner, row.dataset, row.path))
            self._newest_decoy = max(self._newest_decoy, row.id)

    def _load_manifest(self, conn: Connection, name: str, sha256: str) -> None:
        row = find_manifest(conn, name)
        assert row is not None
        self._extents[name] = Extent(row.files, row.size)
        self._sizes.pop(name, None)
        lines = unpack(row.content)
        if row.files + sum(map(len, self._sizes.values())) <= MOST_SIZES:
            self._sizes[name] = parse_sizes(lines)
        paths = conn.execute(select(decoy.c.path).where(decoy.c.dataset == name)).scalars()
        self._taken |= {(name, path) for path in paths if is_listed(lines, path)}
        self._measured[name] = sha256


def _find_stale(conn: Connection, at_us: int) -> tuple[str, str] | None:
    query = (
        select(dataset.c.name, dataset.c.path)
        .outerjoin(manifest, manifest.c.dataset == dataset.c.name)
        .where(manifest.c.measured_us.is_(None) | (manifest.c.measured_us < at_us - DAY_US))
        .order_by(manifest.c.measured_us.is_not(None), manifest.c.measured_us)
        .limit(1)
    )
    row = conn.execute(query).one_or_none()
    return None if row is None else (row.name, row.path)


def _raise_unmeasured(conn: Connection, name: str, why: str, at_us: int) -> None:
    raise_finding(
        conn,
        key=f"A1/unmeasured/{name}/{at_us // DAY_US}",
        kind="A1",
        severity=Severity.LOW,
        subject=f"dataset:{name}",
        evidence={"reason": why, "dataset": name, "version": 1},
        at_us=at_us,
    )
