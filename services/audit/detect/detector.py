"""The detector: events in, findings out. It knows neither database nor clock nor files.

Every event and every tick is given its time; the same input gives the same findings, so rules can
be run over what is stored (`backtest`) and a detector that died can be brought up to date.
"""

from collections.abc import Iterable, Iterator
from hashlib import blake2b

import msgspec

from nightingale_hub.services.audit.detect import checks, shared
from nightingale_hub.services.audit.detect.catalogue import Catalogue
from nightingale_hub.services.audit.detect.counts import Minutes, add, forget
from nightingale_hub.services.audit.detect.finding import US_PER_MINUTE, Finding
from nightingale_hub.services.audit.detect.reader import Reader, name_tool
from nightingale_hub.services.audit.detect.rules import CURRENT, MIN_PER_WEEK, RULES, Rules
from nightingale_hub.services.audit.detect.suspicion import RAISED, Suspicion, judge
from nightingale_hub.services.audit.event import Event

Key = tuple[str, str]  # owner, dataset
SHORT_LOOK = 15  # how long before the newest minute a late event may still complete a window


class State(msgspec.Struct):
    """All that a detector remembers; `dump` and `load` of it are its life after death."""

    version: int = CURRENT
    readers: dict[str, dict[str, Reader]] = {}  # by dataset, then owner
    suspicions: dict[str, dict[str, list[Suspicion]]] = {}
    out_bytes: dict[str, Minutes] = {}  # by owner: what Jupyter tells, but for its own pages
    told_bytes: dict[str, Minutes] = {}  # by owner: all that Jupyter tells
    sent_bytes: dict[str, Minutes] = {}  # by owner: what the kernel counted
    hub_bytes: dict[str, Minutes] = {}  # by owner: of that, what went to the hub
    sent: dict[str, int] = {}  # by stream and class: how far the kernel's count has come
    probed: dict[str, int] = {}  # by owner and dataset: when the agent's own open came, µs
    raised: dict[str, int] = {}  # finding's subject: the minute until which it is quiet


def dump(state: State) -> bytes:
    """Return *state* as bytes."""
    return msgspec.msgpack.encode(state)


def load(data: bytes) -> State:
    """Return the state in *data*; raises `msgspec.DecodeError` for another version's."""
    return msgspec.msgpack.decode(data, type=State)


class Detector:
    """Feeds events into counts, and asks the rules at the end of each batch."""

    def __init__(
        self, catalogue: Catalogue, state: State | None = None, rules: Rules | None = None
    ) -> None:
        """Go on from *state* with *rules*, by default the current ones."""
        self.rules = rules or RULES[CURRENT]
        self.catalogue = catalogue
        self.state = state or State(version=self.rules.version)
        self._ids: dict[str, int] = {}
        self._tools: dict[str, str] = {}
        self._touched: dict[Key, set[int]] = {}

    def feed(
        self, events: Iterable[Event], stream_id: str, received_us: int, place: str = ""
    ) -> list[Finding]:
        """Count *events* of a stream, and return what they break at once: H1 and A1.

        An event that claims to be of the future is counted at the time at which it came.
        """
        catalogue = self.catalogue
        latest_us = received_us + self.rules.ahead_minutes * US_PER_MINUTE
        earliest_us = received_us - self.rules.late_minutes * US_PER_MINUTE
        found: list[Finding] = []
        for event in events:
            act = event.act
            if act == "release":
                continue
            if act == "egress":
                self._note_sent(event, stream_id)
                continue
            dataset, path, at_us = event.ds, event.path, event.ts
            if not earliest_us <= at_us <= latest_us:
                found += self._once(checks.tell_clock(event, stream_id, received_us, self.rules))
                at_us = min(at_us, received_us)
            if catalogue.is_decoy(event.user, dataset, path):
                if event.uid == 0 and catalogue.is_probe(event.user, dataset, path):
                    self.state.probed[f"{event.user}/{dataset}"] = at_us
                    continue
                found += self._once(checks.tell_decoy(event, stream_id, at_us, self.rules))
            if act == "denied":
                continue
            minute = at_us // US_PER_MINUTE
            reader = self._get_reader(event.user, dataset, minute)
            tool = self._tools.get(event.exe)
            if tool is None:
                tool = self._tools[event.exe] = name_tool(event.exe)
            if act == "open":
                reader.open(minute, self._get_id(path), path, event.pid, tool)
                if place:
                    reader.note_place(place, minute)
            elif event.len:
                size = catalogue.find_size(dataset, path)
                reader.read(minute, self._get_id(path), event.off, event.len, size, tool)
        return found

    def note_out(self, owner: str, at_us: int, size: int, kind: str = "file") -> None:
        """Count *size* bytes that Jupyter says left for *owner*'s browser."""
        minute = at_us // US_PER_MINUTE
        add(self.state.told_bytes.setdefault(owner, {}), minute, size)
        if kind != "page":
            self._note(self.state.out_bytes, owner, minute, size)

    def _note_sent(self, event: Event, stream_id: str) -> None:
        """Count what the kernel saw leave the instance; a part may be told twice."""
        if event.path == "local":
            return
        name = f"{stream_id} {event.path}"
        known, reached = self.state.sent.get(name, 0), event.off + event.len
        if reached > known:
            self.state.sent[name] = reached
            minute = event.ts // US_PER_MINUTE
            self._note(self.state.sent_bytes, event.user, minute, reached - known)
            if event.path == "hub":
                add(self.state.hub_bytes.setdefault(event.user, {}), minute, reached - known)

    def _note(self, counted: dict[str, Minutes], owner: str, minute: int, size: int) -> None:
        add(counted.setdefault(owner, {}), minute, size)
        for dataset, readers in self.state.readers.items():
            if owner in readers:
                self._touched.setdefault((owner, dataset), set()).add(minute)

    def _get_out(self, owner: str) -> Minutes:
        """Return what left, by minute: both counters see the same bytes, the kernel's sees more."""
        out, sent = self.state.out_bytes.get(owner, {}), self.state.sent_bytes.get(owner)
        if sent is None:
            return out
        return {m: max(out.get(m, 0), sent.get(m, 0)) for m in out.keys() | sent.keys()}

    def tick(self, at_us: int) -> list[Finding]:
        """Return what is broken now, at *at_us*: windows that were touched, waits that ended."""
        at = at_us // US_PER_MINUTE
        found: list[Finding] = []
        touched, self._touched = self._touched, {}
        for (owner, dataset), minutes in touched.items():
            found += self._look(owner, dataset, minutes)
        for dataset in {dataset for _, dataset in touched}:
            self._open_shared(dataset, at)
        found += self._judge_all(at)
        found += self._look_out(at)
        self.state.raised = {key: until for key, until in self.state.raised.items() if until >= at}
        return found

    def _get_reader(self, owner: str, dataset: str, minute: int) -> Reader:
        readers = self.state.readers.setdefault(dataset, {})
        reader = readers.get(owner)
        if reader is None:
            reader = readers[owner] = Reader()
        self._touched.setdefault((owner, dataset), set()).add(minute)
        return reader

    def _get_id(self, path: str) -> int:
        found = self._ids.get(path)
        if found is None:
            if len(self._ids) > 1 << 18:
                self._ids.clear()
            digest = blake2b(path.encode("utf-8", "surrogatepass"), digest_size=8).digest()
            found = self._ids[path] = int.from_bytes(digest, "big")
        return found

    def _look(self, owner: str, dataset: str, minutes: set[int]) -> Iterator[Finding]:
        reader = self.state.readers[dataset][owner]
        reader.settle()
        out = self._get_out(owner)
        last = max(reader.newest, *minutes)
        ends = {
            end for minute in minutes for end in range(minute, min(minute + SHORT_LOOK, last) + 1)
        }
        scene = checks.Scene(owner, dataset, reader, self.catalogue.get_extent(dataset), self.rules)
        for end in sorted(ends | {last}):
            for found in checks.check_now(scene, end, out):
                yield from self._once(found)
            for suspicion in checks.find_suspicions(scene, end):
                self._open(owner, dataset, suspicion)

    def _open(self, owner: str, dataset: str, suspicion: Suspicion) -> None:
        waiting = self.state.suspicions.setdefault(dataset, {}).setdefault(owner, [])
        quiet = self.state.raised.get(f"{suspicion.rule}/{owner}/{dataset}", -1)
        if suspicion.opened > quiet and all(s.rule != suspicion.rule for s in waiting):
            waiting.append(suspicion)

    def _open_shared(self, dataset: str, at: int) -> None:
        readers, extent = self.state.readers[dataset], self.catalogue.get_extent(dataset)
        for owner, since in shared.find_parts(readers, extent.files, at, self.rules):
            self._open(owner, dataset, Suspicion("R3", since, at, is_shared=True))

    def _judge_all(self, at: int) -> Iterator[Finding]:
        for dataset, by_owner in self.state.suspicions.items():
            for owner, waiting in by_owner.items():
                reader = self.state.readers[dataset][owner]
                out = self._get_out(owner)
                for suspicion in list(waiting):
                    verdict = judge(suspicion, reader, out, at, self.rules)
                    if verdict is None:
                        continue
                    waiting.remove(suspicion)
                    if suspicion.rule != "R2":
                        reader.cleared = at  # what comes from now on is a question of its own
                    if verdict == RAISED:
                        extent = self.catalogue.get_extent(dataset)
                        scene = checks.Scene(owner, dataset, reader, extent, self.rules)
                        yield from self._once(checks.tell_suspicion(scene, suspicion, at, out))

    def _look_out(self, at: int) -> Iterator[Finding]:
        state = self.state
        for each in (state.out_bytes, state.sent_bytes, state.told_bytes, state.hub_bytes):
            for minutes in each.values():
                forget(minutes, at - MIN_PER_WEEK)
        for owner in state.out_bytes.keys() | state.sent_bytes.keys():
            for found in checks.check_out(owner, self._get_out(owner), at, self.rules):
                yield from self._once(found)
        for owner, counted in state.hub_bytes.items():
            told = state.told_bytes.get(owner, {})
            for found in checks.check_told(owner, counted, told, at, self.rules):
                yield from self._once(found)

    def _once(self, found: Finding) -> Iterator[Finding]:
        """Yield *found* unless the same was found in this hour (H1: this minute) already."""
        subject = f"{found.rule}/{found.owner}/{found.dataset}"
        if found.place:
            subject = f"{subject}/{found.severity}/{found.place}"
        minute = found.until_us // US_PER_MINUTE
        if minute <= self.state.raised.get(subject, -1):
            return
        self.state.raised[subject] = minute + checks.QUIET_MINUTES[found.rule]
        yield found
