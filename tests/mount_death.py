"""An audit mount whose first daemon dies: `python -m tests.mount_death POINT mount.json`.

POINT is `<where>-<request>`: where the daemon dies, as `kill -9` does, while it works on its first
such request. Only one daemon dies; those that follow are as they are in production.
"""

import mmap
import os
import signal
import sys

from nightingale_hub.fuse_audit import __main__, daemon, protocol
from nightingale_hub.fuse_audit.kernel import KernelServer
from nightingale_hub.fuse_audit.spool import Spool

REQUESTS = {"open": protocol.OPEN, "read": protocol.READ, "release": protocol.RELEASE}
PLACES = ("before_record", "after_record", "before_reply", "after_reply")

_died = mmap.mmap(-1, 1)  # Shared with every fork, so that only one dies.


def die_at(point: str) -> None:
    if point == sys.argv[1] and not _died[0]:
        _died[0] = 1
        os.kill(os.getpid(), signal.SIGKILL)


class SpoolThatDies(Spool):
    """Kills its own process around the record of a request."""

    def append(self, event, **how):
        (act,) = (name for name in REQUESTS if b'"act":"%b"' % name.encode() in event)
        die_at(f"before_record-{act}")
        super().append(event, **how)
        die_at(f"after_record-{act}")


class KernelServerThatDies(KernelServer):
    """Kills its own process around the reply to a request."""

    def _answer(self, message, data, worker):
        self.opcode = protocol.HEADER.unpack_from(message)[1]
        super()._answer(message, data, worker)

    def _reply(self, unique, code, payload):
        names = [name for name, opcode in REQUESTS.items() if opcode == self.opcode]
        for name in names:
            die_at(f"before_reply-{name}")
        super()._reply(unique, code, payload)
        for name in names:
            die_at(f"after_reply-{name}")


if __name__ == "__main__":
    vars(daemon).update(Spool=SpoolThatDies, KernelServer=KernelServerThatDies)
    sys.exit(__main__.main(sys.argv[2:]))
