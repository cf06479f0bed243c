"""What a daemon serves through, put together from its configuration: a guard and a gate."""

import os

from nightingale_hub.clock import now_us
from nightingale_hub.fuse_audit.accounts import Reader
from nightingale_hub.fuse_audit.configuration import MountConfiguration
from nightingale_hub.fuse_audit.egress import Egress
from nightingale_hub.fuse_audit.gate import Gate
from nightingale_hub.fuse_audit.guard import Guard
from nightingale_hub.fuse_audit.process import Processes
from nightingale_hub.fuse_audit.spool import Spool
from nightingale_hub.fuse_audit.tree import Tree


def make_guard(configuration: MountConfiguration, spool: Spool) -> Guard:
    """Return the guard of *spool*, which is not looking by itself yet."""
    limits, directory = configuration.guard, configuration.spool
    uid = os.geteuid() if limits.reader_uid is None else limits.reader_uid
    egress = Egress(spool, directory, configuration.owner, uid, now_us)
    return Guard(spool, directory, limits, take_notes=egress.take)


def make_gate(configuration: MountConfiguration, tree: Tree, spool: Spool, guard: Guard) -> Gate:
    """Return the gate of *tree*, from now on guarded."""
    limits = configuration.guard
    reader = None if limits.reader_uid is None else Reader(limits.reader_uid)
    guard.start()
    return Gate(
        tree,
        spool,
        configuration.owner,
        Processes(),
        now_us,
        guard,
        reader=reader,
        waits_for_hub=limits.waits_for_hub,
    )
