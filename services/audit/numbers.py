"""Turns events into rows of numbers; what is remembered of names was committed."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row

from nightingale_hub.services.audit.event import ACTIONS, Event
from nightingale_hub.services.audit.names import (
    MAX_REMEMBERED,
    ensure_files,
    ensure_processes,
    ensure_readers,
    ensure_sources,
    hash_file,
    hash_process,
)
from nightingale_hub.tables.audit import audit_event

COLUMNS = tuple(column.name for column in audit_event.c)
NUMBERS = {name: number for number, name in enumerate(ACTIONS)}

Loaded = tuple[Row[Any], Sequence[Event]]  # a batch's row with its stream's owner, and its events


@dataclass
class Known:
    """Numbers of names: of owners, streams, (dataset, path) and (stream, uid, pid, executable)."""

    readers: dict[str, int] = field(default_factory=dict)
    sources: dict[str, int] = field(default_factory=dict)
    files: dict[tuple[str, str], int] = field(default_factory=dict)
    processes: dict[tuple[str, int, int, str], int] = field(default_factory=dict)


@dataclass(frozen=True)
class Missing:
    """Names that have no number yet, as far as this process knows."""

    owners: list[str]
    stream_ids: list[str]
    files: list[tuple[str, str]]
    processes: list[tuple[str, int, int, str]]

    def ensure(self, conn: Connection) -> Known:
        """Return their numbers, making those that are new; the caller commits."""
        readers = ensure_readers(conn, self.owners)
        sources = ensure_sources(conn, sorted({*self.stream_ids, *(p[0] for p in self.processes)}))
        files = ensure_files(conn, self.files)
        numbered = [(sources[stream], *rest) for stream, *rest in self.processes]
        processes = ensure_processes(conn, numbered)  # type: ignore[arg-type]  # by position
        return Known(
            readers,
            sources,
            {file: files[hash_file(*file)] for file in self.files},
            {
                process: processes[hash_process(*numbers)]  # type: ignore[arg-type]  # as above
                for process, numbers in zip(self.processes, numbered, strict=True)
            },
        )


class Numbers:
    """What one process knows of the names' numbers."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._known = Known()

    def find_missing(self, group: Sequence[Loaded]) -> Missing | None:
        """Return the names of *group* that have no number yet, or None when all have."""
        known = self._known
        if len(known.files) + len(known.processes) > MAX_REMEMBERED:
            known = self._known = Known()
        files = {(event.ds, event.path) for _, events in group for event in events}
        processes = {
            (row.stream_id, event.uid, event.pid, event.exe)
            for row, events in group
            for event in events
        }
        missing = Missing(
            sorted({row.owner for row, _ in group} - known.readers.keys()),
            sorted({row.stream_id for row, _ in group} - known.sources.keys()),
            sorted(files - known.files.keys()),
            sorted(processes - known.processes.keys()),
        )
        is_none = not (missing.owners or missing.stream_ids or missing.files or missing.processes)
        return None if is_none else missing

    def remember(self, numbers: Known) -> None:
        """Remember what was committed."""
        self._known.readers |= numbers.readers
        self._known.sources |= numbers.sources
        self._known.files |= numbers.files
        self._known.processes |= numbers.processes

    def format(self, row: Row[Any], events: Sequence[Event]) -> list[tuple[Any, ...]]:
        """Return the rows of a batch's events, in the order of `COLUMNS`."""
        known, stream_id = self._known, row.stream_id
        source, reader = known.sources[stream_id], known.readers[row.owner]
        files, processes = known.files, known.processes
        return [
            (
                source,
                event.seq,
                event.ts,
                reader,
                files[(event.ds, event.path)],
                processes[(stream_id, event.uid, event.pid, event.exe)],
                NUMBERS[event.act],
                event.rc,
                event.off,
                event.len,
                event.dur,
                event.fid,
            )
            for event in events
        ]
