"""An audit mount with one defence taken out: `python -m tests.mount_mutant DEFENCE mount.json`.

With `none` it is the mount as it is. A daemon dies once, before it answers its first read.
"""

import sys

from nightingale_hub.fuse_audit import __main__, daemon, mappings, protocol
from nightingale_hub.fuse_audit.charges import Charges
from nightingale_hub.fuse_audit.memory import Memory
from nightingale_hub.fuse_audit.nodes import Nodes
from tests import mount_death


def keep_pages_in_the_cache() -> None:
    protocol.OPEN_FLAGS_STRICT = 1 << 1 | 1 << 5


def send_nothing_again() -> None:
    vars(protocol)["pack_resend"] = lambda: b""


def note_no_record() -> None:
    setattr(Memory, "note", lambda *_: None)  # noqa: B010


def share_one_page_cache() -> None:
    remember = Nodes.remember
    setattr(Nodes, "remember", lambda *a, **_: remember(*a, is_shared=True))  # noqa: B010
    setattr(Nodes, "open", lambda *_: None)  # noqa: B010


def record_no_harvest() -> None:
    setattr(Charges, "_record", lambda _: None)  # noqa: B010


def look_at_no_mapping() -> None:
    setattr(mappings.Mappings, "take", lambda _: ([], False))  # noqa: B010


def settle_nothing() -> None:
    vars(daemon)["settle"] = lambda *_: None


DEFENCES = {
    each.__name__: each
    for each in (
        keep_pages_in_the_cache,
        send_nothing_again,
        note_no_record,
        share_one_page_cache,
        record_no_harvest,
        look_at_no_mapping,
        settle_nothing,
    )
}

if __name__ == "__main__":
    _, defence, point, *rest = sys.argv
    if defence != "none":
        DEFENCES[defence]()
    sys.argv[1] = point
    mount_death._died[0] = point == "never"
    vars(daemon).update(
        Spool=mount_death.SpoolThatDies, KernelServer=mount_death.KernelServerThatDies
    )
    sys.exit(__main__.main(rest))
