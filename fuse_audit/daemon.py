"""The daemon of one audit mount: it serves what its supervisor hands over, until a signal.

It begins as a fork without root's rights (supervisor.py), and whatever it leaves behind when it
is killed, the next one takes over. When the supervisor says so, and on no signal, it records the
release of what is still open, puts the spool on disk and ends.
"""

import dataclasses
import functools
import json
import select
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from nightingale_hub.errors import Unavailable
from nightingale_hub.fuse_audit import choice, privileges
from nightingale_hub.fuse_audit.checkpoint import make_gate, make_guard
from nightingale_hub.fuse_audit.configuration import MountConfiguration
from nightingale_hub.fuse_audit.control import Control
from nightingale_hub.fuse_audit.descriptor import Descriptor
from nightingale_hub.fuse_audit.files import settle
from nightingale_hub.fuse_audit.kernel import KernelServer
from nightingale_hub.fuse_audit.memory import Memory
from nightingale_hub.fuse_audit.nodes import Nodes
from nightingale_hub.fuse_audit.pipe import Pipe
from nightingale_hub.fuse_audit.spool import Spool
from nightingale_hub.fuse_audit.tree import Tree

_LOOK_EVERY_S = 0.5
# Longer than a slow disk takes, or the hub to store a record: who waits longer waits for ever.
STUCK_AFTER_S = 30.0


class Task(NamedTuple):
    """What one daemon after the other serves: all that is open was opened by the supervisor."""

    configuration: MountConfiguration
    device: int
    sources: dict[str, Descriptor]
    memory: Memory
    mounted_at_ns: int
    watched: frozenset[int]


def serve(task: Task, control: socket.socket, end: int, pipes: Sequence[Pipe]) -> None:
    """Serve *task* until the pipe *end* is closed, and say on *control* when that begins.

    As many requests as there are *pipes* are served at a time.

    Raises `MountRefused` for a spool that cannot be used, `Unavailable` when the mount is gone.
    """
    configuration = task.configuration
    spool = Spool(configuration.spool, configuration.spool_limit_bytes)
    guard = make_guard(configuration, spool)
    tree = Tree(configuration.datasets, task.mounted_at_ns, guard.describe, task.sources)
    gate = make_gate(configuration, tree, spool, guard)
    try:
        if task.memory.is_left:
            settle(gate, Nodes(tree, task.memory))
            task.memory.clear()
        recorded = task.memory.list_recorded(spool.next_seq)
        asked = Control(control, task.watched)
        server = KernelServer(task.device, tree, gate, task.memory, recorded, asked, pipes)
        workers = server.start()
        asked.say_ready()
        try:
            _wait(workers, configuration.mountpoint, end, functools.partial(_beat, server, asked))
        finally:
            server.close()
    finally:
        if gate.close():
            task.memory.clear()  # Nothing is open any more, and nothing is left to be settled.
        spool.close()


def serve_libfuse(configuration: MountConfiguration) -> None:
    """Serve *configuration* through libfuse, which mounts by itself, until SIGTERM or SIGINT.

    Nobody takes over when this process dies: its readers get an error then.
    """
    from nightingale_hub.fuse_audit import libfuse  # It needs libfuse on this machine.

    privileges.harden()
    datasets = choice.choose(configuration.datasets, libfuse.find_obstacle)
    configuration = dataclasses.replace(configuration, datasets=datasets)
    spool = Spool(configuration.spool, configuration.spool_limit_bytes)
    guard = make_guard(configuration, spool)
    tree = Tree(configuration.datasets, time.time_ns(), guard.describe)
    gate = make_gate(configuration, tree, spool, guard)
    try:
        libfuse.serve(
            configuration, tree, gate, functools.partial(announce, configuration, "libfuse")
        )
    finally:
        gate.close()
        spool.close()


def announce(configuration: MountConfiguration, how: str) -> None:
    """Say on stdout that the mount of *configuration* is served, and by which policies."""
    policies = {dataset.name: dataset.policy.name for dataset in configuration.datasets}
    said = {"mounted": configuration.mountpoint, "how": how, "policies": policies}
    print(json.dumps(said), flush=True)


def _beat(server: KernelServer, asked: Control) -> None:
    """Say to the supervisor that requests are answered, if they are."""
    if not server.is_stuck(STUCK_AFTER_S):
        asked.say_alive()


def _wait(workers: list[threading.Thread], path: str, end: int, beat: Callable[[], None]) -> None:
    """Return at the word to end; raise `Unavailable` when the mount is taken away by another."""
    while all(worker.is_alive() for worker in workers):
        beat()
        told, _, _ = select.select([end], [], [], _LOOK_EVERY_S)
        if told:
            return
    raise Unavailable(f"the mount at {path} was taken away; start it again")
