"""Records of what was read past the daemon (policy `ranges`): from harvests to lines.

The law: a file's release is recorded and answered after a harvest that began when nobody had it
open any more, so that all of its ranges stand before it; and a harvest is asked for anew until
each of its charges is in the spool. After a loss each file that is open is charged wholly.
"""

import logging
import os
import threading
import time
from collections.abc import Callable

from nightingale_hub.fuse_audit.gate import Gate
from nightingale_hub.fuse_audit.handle import Handle
from nightingale_hub.fuse_audit.ranges import MOUNT, TO_THE_END, UNKNOWN_UID, Charge, Harvest

HARVEST_EVERY_S = 0.5
_AGAIN_AFTER_S = 0.2

_log = logging.getLogger(__name__)


class Charges:
    """Charges what one mount's readers were given to whom it was given."""

    def __init__(self, gate: Gate, harvest: Callable[[int], tuple[int, Harvest]]) -> None:
        """Take charges by *harvest*, which is told the number of the last one recorded."""
        self._gate = gate
        self._harvest = harvest
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._files: dict[tuple[int, int], dict[int, Handle]] = {}
        self._closing: list[tuple[Handle, Callable[[], None]]] = []
        self._recorded = 0
        self._is_ending = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Record from now on."""
        self._thread.start()

    def add(self, handle: Handle) -> None:
        """Know the open file of *handle*."""
        with self._lock:
            for key in self._list_keys(handle):
                self._files.setdefault(key, {})[handle.fid] = handle

    def release(self, handle: Handle, finish: Callable[[], None]) -> None:
        """Call *finish* once all that was read by *handle* is recorded."""
        with self._lock:
            self._closing.append((handle, finish))
        self._wake.set()

    def close(self) -> None:
        """Record what is left; the reads of files that are still open too."""
        self._is_ending = True
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        is_last = False
        while not is_last:
            self._wake.wait(HARVEST_EVERY_S)
            self._wake.clear()
            is_last = self._is_ending
            with self._lock:
                closing, self._closing = self._closing, []
                has_files = bool(self._files)
            if not has_files and not closing:
                continue
            try:
                self._record()
            except OSError as error:
                # Nothing is forgotten: the harvest comes again, and its releases wait for it.
                _log.error("reads could not be recorded yet: %s", error.strerror)
                with self._lock:
                    self._closing = closing + self._closing
                time.sleep(_AGAIN_AFTER_S)
                continue
            self._finish(closing)

    def _record(self) -> None:
        number, (charges, is_lossy) = self._harvest(self._recorded)
        with self._lock:
            files = {key: dict(handles) for key, handles in self._files.items()}
        for charge in charges:
            handles = files.get((charge.device, charge.ino))
            if handles:
                self._record_charge(charge, list(handles.values()))
        if is_lossy:
            _log.error("the kernel lost count of what is read: each open file is charged wholly")
            for (device, _), handles in files.items():
                for handle in handles.values() if device != MOUNT else ():
                    self._gate.charge(handle, 0, TO_THE_END, handle.uid, handle.opener)
        self._recorded = number

    def _record_charge(self, charge: Charge, handles: list[Handle]) -> None:
        # One who reads by somebody else's open is charged too, by that open.
        mine = [handle for handle in handles if handle.opener.pid == charge.tgid]
        handle = (mine or handles)[0]
        process = handle.opener if mine else self._gate.processes.find(charge.tgid)
        uid = handle.uid if charge.uid == UNKNOWN_UID else charge.uid
        self._gate.charge(handle, charge.offset, charge.end, uid, process)

    def _finish(self, closing: list[tuple[Handle, Callable[[], None]]]) -> None:
        for handle, finish in closing:
            with self._lock:
                for key in self._list_keys(handle):
                    handles = self._files.get(key, {})
                    handles.pop(handle.fid, None)
                    if not handles:
                        self._files.pop(key, None)
            finish()

    def _list_keys(self, handle: Handle) -> list[tuple[int, int]]:
        found = os.fstat(handle.file.fd)
        return [(found.st_dev, found.st_ino), (MOUNT, self._gate.describe(handle).ino)]
