"""An audit service that dies at a named point: `python -m tests.audit_death POINT`."""

import os
import signal
import sys

from nightingale_hub.service import Context, Service, run
from nightingale_hub.services.audit import service
from nightingale_hub.services.audit.writer import Writer

POINTS = ("before_append", "after_append", "after_record")


class WriterThatDies(Writer):
    """Kills its own process, as `kill -9` does, where `point` says."""

    point = ""

    def die_at(self, point):
        if point == self.point:
            os.kill(os.getpid(), signal.SIGKILL)

    async def append(self, batches, at_us):
        self.die_at("before_append")
        places = await super().append(batches, at_us)
        self.die_at("after_append")
        return places

    async def record(self, written, at_us):
        await super().record(written, at_us)
        self.die_at("after_record")


def make(context: Context) -> Service:
    return service.make(context, WriterThatDies)


if __name__ == "__main__":
    WriterThatDies.point = sys.argv[1]
    run("audit", make)
