"""Whatever senders and deaths do, each acknowledged line is stored once, in its place."""

import asyncio
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from nightingale_hub.clock import now_us
from nightingale_hub.database import Database
from nightingale_hub.lease import take_lease
from nightingale_hub.service import Context
from nightingale_hub.services.audit.batch import Batch, hash_lines
from nightingale_hub.services.audit.index import Index
from nightingale_hub.services.audit.rebuild import rebuild, replay
from nightingale_hub.services.audit.segments import Segments
from nightingale_hub.services.audit.stream import Ack, Contradiction, Gap, open_stream
from nightingale_hub.services.audit.writer import Writer
from nightingale_hub.settings import NightingaleHub
from tests.audit import AT_US, Sender, add_instance, list_stored, make_line, pack

POINTS = ("before_append", "in_append", "after_append", "after_record")


class Died(BaseException):
    """What `kill -9` is to the code that runs: it goes no further, and nothing cleans up."""


class WriterThatDies(Writer):
    """A writer that goes no further at a named point; a torn frame is left in the file."""

    point = ""

    async def append(self, batches, at_us):
        if self.point == "before_append":
            raise Died
        if self.point == "in_append":
            places = await super().append(batches, at_us)
            file = self.segments.directory / places[-1].file
            with file.open("r+b") as segment:
                segment.truncate(places[-1].position + places[-1].length // 2)
            raise Died
        places = await super().append(batches, at_us)
        if self.point == "after_append":
            raise Died
        return places

    async def record(self, written, at_us):
        await super().record(written, at_us)
        if self.point == "after_record":
            raise Died


class AuditLog(RuleBasedStateMachine):
    """Two honest streams, whose batches come again, out of order and forged, over many deaths."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.place = Path(self.folder.name)
        self.database = Database(f"sqlite:///{self.place / 'hub.sqlite'}")
        self.database.upgrade()
        self.senders = [add_instance(self.database, owner) for owner in ("alice", "bob")]
        self.sent: list[list[tuple[int, list[bytes], Any]]] = [[], []]
        self.acked = [0, 0]
        self.start()
        with self.database.write() as conn:
            for each in self.senders:
                open_stream(conn, each.stream_id, each.owner, each.signer.public_key, AT_US)

    def start(self) -> None:
        epoch = self.database.transact(lambda conn: take_lease(conn, "audit", "test", now_us()))
        settings_ = NightingaleHub(state_dir=str(self.place), db_url=self.database.url)
        self.context = Context("audit", settings_, self.database, epoch)
        self.segments = Segments(self.place / "audit" / "segments", epoch)
        self.writer = WriterThatDies(self.context, self.segments)

    def make(self, sender: Sender, first: int, lines: list[bytes], seal: Any) -> Batch:
        text = b"".join(line + b"\n" for line in lines)
        return Batch(
            sender.stream_id, sender.instance_id, sender.owner, first, first + len(lines) - 1,
            hash_lines(text), pack(lines), seal, sender.signer.public_key,
        )  # fmt: skip

    def put(self, batch: Batch, point: str) -> Any:
        async def work() -> Any:
            self.writer.point = point
            answer = asyncio.ensure_future(self.writer.store(batch))
            await asyncio.sleep(0)
            try:
                await self.writer.step()
            except Died:
                answer.cancel()
                await asyncio.gather(answer, return_exceptions=True)
                return SimpleNamespace(died=True)
            return await answer

        answer = asyncio.run(work())
        if isinstance(answer, SimpleNamespace):
            self.start()  # a new process, a new epoch, the same files and database
        return answer

    @rule(who=st.integers(0, 1), count=st.integers(1, 5), point=st.sampled_from(["", "", *POINTS]))
    def send_next(self, who: int, count: int, point: str) -> None:
        sender, sent = self.senders[who], self.sent[who]
        first = sent[-1][2].last_seq + 1 if sent else 1
        lines = [make_line(n, owner=sender.owner) for n in range(first, first + count)]
        seal = sender.seal(first, lines)
        sender.chains[seal.last_seq] = seal.chain
        sent.append((first, lines, seal))
        if first == self.acked[who] + 1:
            self.deliver(who, len(sent) - 1, point)

    @rule(who=st.integers(0, 1), which=st.integers(0, 30), point=st.sampled_from(["", *POINTS]))
    def send_again_or_ahead(self, who: int, which: int, point: str) -> None:
        if self.sent[who]:
            self.deliver(who, which % len(self.sent[who]), point)

    def deliver(self, who: int, which: int, point: str) -> None:
        first, lines, seal = self.sent[who][which]
        answer = self.put(self.make(self.senders[who], first, lines, seal), point)
        if isinstance(answer, SimpleNamespace):
            return
        if first > self.acked[who] + 1 and isinstance(answer, Gap):
            # A death after the commit may have stored what was not acknowledged yet.
            assert self.acked[who] + 1 <= answer.expect <= first
            return
        assert isinstance(answer, Ack)
        assert answer.last_seq >= max(self.acked[who], seal.last_seq)
        self.acked[who] = answer.last_seq

    @rule(who=st.integers(0, 1), data=st.data())
    def forge(self, who: int, data: Any) -> None:
        if not self.acked[who]:
            return
        sender = self.senders[who]
        first = data.draw(st.integers(1, self.acked[who]))
        lines = [make_line(first, owner=sender.owner, path="forged")]
        answer = self.put(self.make(sender, first, lines, sender.seal(first, lines)), "")
        assert isinstance(answer, Contradiction)

    @rule()
    def restart(self) -> None:
        self.start()

    @rule()
    def index(self) -> None:
        asyncio.run(Index(self.context, self.segments).step())

    @invariant()
    def each_acknowledged_line_is_stored_once(self) -> None:
        if not hasattr(self, "segments"):
            return
        told = replay(self.segments.directory)
        for sender, acked in zip(self.senders, self.acked, strict=True):
            stored = told.get(sender.stream_id, [])
            assert (stored[-1][0].last_seq if stored else 0) >= acked

    def teardown(self) -> None:
        if not hasattr(self, "segments"):
            return
        for is_rebuilt in (False, True):
            if is_rebuilt:
                with self.database.write() as conn:
                    assert rebuild(conn, self.segments.directory) == []
            self.index()
            for sender, acked in zip(self.senders, self.acked, strict=True):
                stored = list_stored(self.database, sender)
                assert [seq for seq, _ in stored] == list(range(1, len(stored) + 1))
                assert len(stored) >= acked
                assert all(path == f"CT/{seq}.dcm" for seq, path in stored)
        self.database.dispose()
        self.folder.cleanup()


TestAuditLog = AuditLog.TestCase
TestAuditLog.settings = settings(
    max_examples=12,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
