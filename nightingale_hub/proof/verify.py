"""Goes through a bundle leaf by leaf and says what does not hold.

It trusts the key that it is given and what the witness holds, and nothing else in the bundle.
What it cannot find: what root on an instance forged before it was signed, and an edit of leaves
that are younger than the newest checkpoint that it is shown.
"""

import hashlib
import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from nightingale_hub.proof.bundle import Bundle, Object
from nightingale_hub.proof.note import Checkpoint, Key
from nightingale_hub.proof.tree import Range, encode_leaf, hash_leaf

# Six years without their leap days: no record may be dropped earlier.
KEPT_LEAST_US = 6 * 365 * 86_400 * 1_000_000


@dataclass
class Verdict:
    """What was found: *problems* are proof of an edit, *notes* what a reader should know."""

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    leaves: int = 0
    checkpoints: int = 0
    batches: int = 0
    lines: int = 0
    journals: int = 0
    dropped: int = 0


class Checker:
    """Goes through a bundle once, leaf by leaf, and writes down what does not hold."""

    def __init__(self, bundle: Bundle, key: Key) -> None:
        """Check *bundle* under *key*."""
        self.bundle, self.key, self.verdict = bundle, key, Verdict()
        self.streams: dict[str, Object] = {}
        self.number = 0
        self.at_us = 0
        self.unread: dict[int, tuple[str, int]] = {}  # batches without lines, and when they came
        self.journals = {each["id"]: each for each in bundle.list_objects("journals.ndjson")}
        self.unlogged = set(self.journals)
        self.documents = {each["number"]: each for each in bundle.list_objects("documents.ndjson")}

    def problem(self, text: str) -> None:
        """Write down a proof of an edit."""
        self.verdict.problems.append(text)

    def parse_notes(self, holder: str, notes: Iterable[str]) -> list[Checkpoint]:
        """Return the checkpoints of *holder*; one that the key did not sign is a problem."""
        found = []
        for number, note in enumerate(notes, 1):
            try:
                found.append(Checkpoint.parse(note, self.key))
            except ValueError as error:
                self.problem(f"checkpoint {number} of {holder}: {error}")
        for before, after in itertools.pairwise(found):
            if before.at_us >= after.at_us or before.size > after.size:
                self.problem(f"the checkpoint of {after.at_us} of {holder} is out of its order")
        self.verdict.checkpoints += len(found)
        return found

    def check_leaves(self, checkpoints: Sequence[Checkpoint]) -> None:
        """Check each leaf, and that each checkpoint is of exactly the leaves before it."""
        roots: dict[int, set[bytes]] = {}
        for each in checkpoints:
            roots.setdefault(each.size, set()).add(each.root)
        tree = Range()
        self._compare(tree, roots)
        for leaf in self.bundle.list_objects("leaves.ndjson"):
            if leaf["position"] != tree.size:
                self.problem(f"leaf {tree.size} is missing: leaf {leaf['position']} follows")
            payload = leaf["payload"]
            if payload is None:
                self.verdict.notes.append(f"leaf {tree.size}: its payload was erased")
            elif hashlib.sha256(payload.encode()).hexdigest() != leaf["sha256"]:
                self.problem(f"leaf {tree.size}: its payload is not what was logged")
            tree.append(hash_leaf(encode_leaf(leaf["kind"], leaf["at_us"], leaf["sha256"])))
            self._compare(tree, roots)
            self.at_us = leaf["at_us"]
            check = getattr(self, f"_check_{leaf['kind']}", None)
            if check is not None and payload is not None:
                check(f"leaf {leaf['position']}", json.loads(payload))
        self.verdict.leaves = tree.size
        for size in sorted(size for size in roots if size > tree.size):
            self.problem(
                f"a checkpoint is of {size} leaves, the bundle has {tree.size}: cut or old"
            )

    def check_rest(self) -> None:
        """Check what has no leaf of its own."""
        for name, _ in self.unread.values():
            self.problem(f"{name}: its lines are missing")
        for journal_id in sorted(self.unlogged):
            self.problem(f"journal {journal_id} is in no leaf")
        for number in sorted(self.documents):
            self.problem(f"document {number} is in no leaf")
        for meter in self.bundle.list_objects("meter.ndjson"):
            stream = f"{meter['instance_id']}:{meter['boot_id']}"
            if stream not in self.streams:
                self.verdict.notes.append(f"{stream} was metered and has no audit stream")

    def _compare(self, tree: Range, roots: dict[int, set[bytes]]) -> None:
        if any(root != tree.root() for root in roots.get(tree.size, ())):
            self.problem(f"the first {tree.size} leaves are not those of a checkpoint")

    def _check_stream_open(self, where: str, said: Object) -> None:
        stream_id, key = said["stream_id"], said["public_key"]
        if stream_id in self.streams:
            self.problem(f"{where}: stream {stream_id} is opened twice")
        text = b"nightingale audit stream\0" + stream_id.encode() + b"\0" + bytes.fromhex(key)
        begin = hashlib.sha256(text).hexdigest()
        self.streams[stream_id] = {"key": key, "chain": begin, "last_seq": 0}

    def _check_batch(self, where: str, said: Object) -> None:
        self.number += 1
        self.verdict.batches += 1
        name = f"{where}: batch {said['number']} of {said['stream_id']}"
        stream = self.streams.get(said["stream_id"])
        if said["number"] != self.number:
            self.problem(f"{name} stands where batch {self.number} should")
        if stream is None:
            self.problem(f"{name}: its stream was not opened")
            return
        if (said["first_seq"], said["prev_chain"]) != (stream["last_seq"] + 1, stream["chain"]):
            self.problem(f"{name} does not follow the batch before it")
        numbers = said["first_seq"].to_bytes(8, "big") + said["last_seq"].to_bytes(8, "big")
        data = bytes.fromhex(said["prev_chain"]) + bytes.fromhex(said["root"]) + numbers
        chain = hashlib.sha256(data).digest()
        try:
            public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(stream["key"]))
            public.verify(bytes.fromhex(said["signature"]), b"nightingale audit batch\0" + chain)
        except InvalidSignature:
            self.problem(f"{name}: its instance did not sign it")
        stream.update(chain=chain.hex(), last_seq=said["last_seq"])
        self._check_lines(name, said)

    def _check_lines(self, name: str, said: Object) -> None:
        if said["number"] < self.bundle.about["lines_from"]:
            return
        data = self.bundle.read(f"lines/{said['number']:012d}.ndjson")
        if data is None:
            self.unread[said["number"]] = (name, self.at_us)
            return
        tree = Range()
        for line in data.removesuffix(b"\n").split(b"\n"):
            tree.append(hash_leaf(line))
        self.verdict.lines += tree.size
        if tree.root().hex() != said["root"]:
            self.problem(f"{name}: its lines are not those that were acknowledged")

    def _check_retention(self, where: str, said: Object) -> None:
        for first, last in said["batches"]:
            for number in [each for each in self.unread if first <= each <= last]:
                name, came_us = self.unread[number]
                if self.at_us - came_us >= KEPT_LEAST_US:
                    del self.unread[number]
                    self.verdict.dropped += 1
                else:
                    self.problem(f"{where}: lines of {name} were dropped before six years")

    def _check_stream_end(self, where: str, said: Object) -> None:
        stream = self.streams.get(said["stream_id"], {})
        if (said["last_seq"], said["chain"]) != (stream.get("last_seq"), stream.get("chain")):
            self.problem(f"{where}: stream {said['stream_id']} did not end there")

    def _check_journals(self, where: str, said: Object) -> None:
        ids = [n for n in range(said["first"], said["last"] + 1) if n in self.unlogged]
        self.unlogged.difference_update(ids)
        text = ""
        for each in (self.journals[number] for number in ids):
            payload = json.dumps([each["description"], each["entries"]])
            digest = hashlib.sha256(payload.encode()).hexdigest()
            text += f"{each['id']} {each['idem_key']} {digest}\n"
            sums: dict[str, int] = {}
            for _, amount, currency in each["entries"]:
                sums[currency] = sums.get(currency, 0) + amount
            if any(sums.values()):
                self.problem(f"{where}: journal {each['id']} does not sum to zero")
        self.verdict.journals += len(ids)
        if len(ids) != said["count"] or hashlib.sha256(text.encode()).hexdigest() != said["sha256"]:
            self.problem(f"{where}: journals {said['first']} to {said['last']} are not as posted")

    def _check_invoice(self, where: str, said: Object) -> None:
        document = self.documents.pop(said["number"], {"content": "", "pdf_sha256": ""})
        content = hashlib.sha256(document["content"].encode()).hexdigest()
        if (content, document["pdf_sha256"]) != (said["content_sha256"], said["pdf_sha256"]):
            self.problem(f"{where}: document {said['number']} is not what was issued")

    _check_credit_note = _check_invoice


def verify(bundle: Bundle, key: Key, witnessed: Sequence[str]) -> Verdict:
    """Return what *bundle* proves under *key*, held against the notes that a witness kept."""
    checker = Checker(bundle, key)
    notes = [str(each["note"]) for each in bundle.list_objects("checkpoints.ndjson")]
    signed = checker.parse_notes("the bundle", notes)
    kept = checker.parse_notes("the witness", witnessed)
    for each in sorted(set(kept) - set(signed), key=lambda each: each.at_us):
        checker.problem(f"the checkpoint of {each.at_us}, which the witness has, is missing")
    checker.check_leaves([*signed, *kept])
    checker.check_rest()
    verdict = checker.verdict
    if not signed:
        verdict.problems.append("the bundle has no checkpoint that the key signed")
    if verdict.dropped:
        verdict.notes.append(f"lines of {verdict.dropped} batches were dropped after their time")
    young = verdict.leaves - max((each.size for each in [*signed, *kept]), default=0)
    if young > 0:
        verdict.notes.append(f"{young} leaves are younger than the newest checkpoint")
    if not witnessed:
        verdict.notes.append("no witness was given: an old copy put back whole looks like this")
    return verdict


def verify_file(path: Path, witness: Path | None, key: str | None) -> Verdict:
    """Return the verdict on the bundle at *path*; raises `ValueError` for what cannot be read."""
    bundle = Bundle(path)
    notes = []
    if witness is not None:
        if not witness.is_dir():
            raise ValueError(f"{witness} is no folder of a witness")
        notes = [file.read_text() for file in sorted(witness.rglob("*.note"))]
        if not notes:
            raise ValueError(f"{witness} holds no checkpoint")
    try:
        return verify(bundle, bundle.key if key is None else Key.parse(key), notes)
    except (KeyError, TypeError, AttributeError, OverflowError, ValueError) as error:
        return Verdict([f"the bundle is not as the hub writes it: {error!r}"])


def format_verdict(verdict: Verdict) -> str:
    """Return *verdict* for a person; what others wrote is ASCII without control characters."""
    lines = [f"EDITED: {ascii(each)[1:-1]}" for each in verdict.problems]
    lines += [f"note: {ascii(each)[1:-1]}" for each in verdict.notes]
    lines.append(
        f"{'NOT PROVEN' if verdict.problems else 'verified'}: {verdict.leaves} leaves, "
        f"{verdict.checkpoints} checkpoints, {verdict.batches} batches, {verdict.lines} lines, "
        f"{verdict.journals} journals"
    )
    return "\n".join(lines)
