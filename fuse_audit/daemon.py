"""The daemon of one audit mount: from a configuration to a served mount, until a signal.

It outlives no mount and no mount outlives it: on SIGTERM or SIGINT it unmounts, records the
release of what is still open, puts the spool on disk and ends.
"""

import contextlib
import ctypes
import json
import logging
import os
import resource
import signal
import threading
import time

from nightingale_hub.clock import now_us
from nightingale_hub.errors import Unavailable
from nightingale_hub.fuse_audit import mountpoint
from nightingale_hub.fuse_audit.configuration import MountConfiguration
from nightingale_hub.fuse_audit.gate import Gate
from nightingale_hub.fuse_audit.kernel import KernelServer
from nightingale_hub.fuse_audit.process import Processes
from nightingale_hub.fuse_audit.protocol import MAX_READ_BYTES
from nightingale_hub.fuse_audit.spool import Spool
from nightingale_hub.fuse_audit.tree import Tree

_STOPPING = (signal.SIGTERM, signal.SIGINT)
_LOOK_EVERY_S = 0.5

# ref: https://man7.org/linux/man-pages/man2/prctl.2.html
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38

_log = logging.getLogger(__name__)


def run(configuration: MountConfiguration) -> None:
    """Serve *configuration* until SIGTERM or SIGINT. Raises what refuses the mount."""
    _harden()
    # Blocked before any thread starts: they wait for the one place that takes them.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
    spool = Spool(configuration.spool, configuration.spool_limit_bytes)
    tree = Tree(configuration.datasets, time.time_ns())
    gate = Gate(tree, spool, configuration.owner, Processes(), now_us)
    try:
        if configuration.adapter == "libfuse":
            from nightingale_hub.fuse_audit import libfuse  # It needs libfuse on this machine.

            signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)  # libfuse handles them.
            libfuse.serve(configuration, tree, gate, announce)
        else:
            _serve_kernel(configuration, tree, gate)
    finally:
        gate.close()
        spool.close()


def announce(path: str, how: str) -> None:
    """Say on stdout that the mount at *path* is served."""
    print(json.dumps({"mounted": path, "how": how}), flush=True)


def _serve_kernel(configuration: MountConfiguration, tree: Tree, gate: Gate) -> None:
    path = configuration.mountpoint
    mounted = mountpoint.mount(
        path, allow_other=configuration.allow_other, max_read_bytes=MAX_READ_BYTES
    )
    try:
        if mounted.how == "mount(2)":
            # The setuid helper, which must unmount for us later, would lose its rights by this.
            ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        workers = KernelServer(mounted.device, tree, gate).start()
        announce(path, mounted.how)
        _wait(workers, path)
    finally:
        mountpoint.unmount(mounted, path)


def _wait(workers: list[threading.Thread], path: str) -> None:
    """Return at a signal to stop; raise `Unavailable` when the mount is taken away by another."""
    while all(worker.is_alive() for worker in workers):
        if signal.sigtimedwait(_STOPPING, _LOOK_EVERY_S) is not None:
            return
    raise Unavailable(f"the mount at {path} was taken away; start it again")


def _harden() -> None:
    os.umask(0o077)
    # Nobody looks into this process: it holds open files of every dataset.
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    with contextlib.suppress(ValueError, OSError):
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
