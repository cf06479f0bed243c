"""Honeyfiles: files that no study uses, in each owner's view of a dataset, like those around them.

They are chosen from the manifest's folders by a key that only the hub has, so each owner has
others, and written down before an instance is told of them. Whoever goes by the manifest never
meets one. Nothing that an instance is told says what they are for.
"""

import hashlib
import hmac
import itertools
import json
import math
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select

from nightingale_hub.manifest import find_manifest, is_listed, unpack_lines
from nightingale_hub.tables.decoys import decoy

COUNT = 6  # in a dataset
SECOND_NS = 1_000_000_000
_HEX = re.compile(r"[0-9a-f]{8,}|[0-9A-F]{8,}")
_DIGITS = re.compile(r"[0-9]+")
_PLAIN = re.compile(r"[^\x00-\x1f\\/]+")

Siblings = Mapping[str, Mapping[str, tuple[int, int]]]


@dataclass(frozen=True)
class Decoy:
    """One honeyfile as it will be served; *sibling* is the file beside it that it is like."""

    path: str
    sibling: str
    size: int
    mtime_ns: int
    seed: str


def list_extras(
    conn: Connection, key: bytes, owner: str, dataset: str, at_us: int
) -> list[dict[str, Any]]:
    """Return what an instance of *owner* must serve beside *dataset*; plans it when it is new.

    Empty while the dataset has no manifest. The caller commits before anyone is told.
    """
    query = select(decoy).where(decoy.c.owner == owner, decoy.c.dataset == dataset)
    rows = conn.execute(query.order_by(decoy.c.id)).all()
    if not rows:
        found = find_manifest(conn, dataset)
        if found is None:
            return []
        words = json.dumps([owner, dataset]).encode()
        seed = hmac.digest(key, b"honeyfiles " + words, "sha256").hex()
        lines = unpack_lines(found.content)
        planned = plan_decoys(json.loads(found.siblings), seed)
        free = [each for each in planned if not is_listed(lines, each.path)]
        for number, each in enumerate(free):
            conn.execute(
                insert(decoy).values(
                    dataset=dataset,
                    owner=owner,
                    path=each.path,
                    sibling=each.sibling,
                    size=each.size,
                    mtime_ns=each.mtime_ns,
                    seed=each.seed,
                    is_probe=number == 0,
                    planted_us=at_us,
                )
            )
        rows = conn.execute(query.order_by(decoy.c.id)).all()
    names = ("path", "sibling", "size", "mtime_ns", "seed")
    return [{name: getattr(row, name) for name in names} for row in rows]


def plan_decoys(siblings: Siblings, seed: str) -> list[Decoy]:
    """Return up to six honeyfiles in the folders of *siblings*, the same for the same *seed*."""
    rng = random.Random(seed)  # noqa: S311 - the seed is a keyed hash
    planned: list[Decoy] = []
    folders = sorted(siblings)
    rng.shuffle(folders)
    for folder in folders:
        if len(planned) == COUNT:
            break
        files = siblings[folder]
        names = [name for name in sorted(files) if _PLAIN.fullmatch(name)]
        rng.shuffle(names)
        for sibling in names[:8]:
            name = _name_like(sibling, set(files), rng)
            if name is None:
                continue
            prefix = f"{folder}/" if folder else ""
            size, mtime_ns = _measure_like([files[each] for each in names], rng)
            own = hashlib.sha256(f"{seed} {prefix}{name}".encode()).hexdigest()
            planned.append(Decoy(prefix + name, prefix + sibling, size, mtime_ns, own))
            break
    return planned


def _name_like(sibling: str, taken: set[str], rng: random.Random) -> str | None:
    """Return a name of *sibling*'s kind that is not *taken*; None for one without a number."""
    hexes = [match for match in _HEX.finditer(sibling) if re.search("[a-fA-F]", match[0])]
    if hexes:
        match = rng.choice(hexes)
        digits = "0123456789" + ("ABCDEF" if match[0].isupper() else "abcdef")
        for _ in range(16):
            word = "".join(rng.choices(digits, k=len(match[0])))
            name = sibling[: match.start()] + word + sibling[match.end() :]
            if name not in taken:
                return name
        return None
    numbers = list(_DIGITS.finditer(sibling))
    if not numbers:
        return None
    match = numbers[-1]
    head, tail = sibling[: match.start()], sibling[match.end() :]
    shape = re.compile(re.escape(head) + r"([0-9]+)" + re.escape(tail))
    known = sorted(int(found[1]) for name in taken if (found := shape.fullmatch(name)))
    gaps = [pair for pair in itertools.pairwise(known) if pair[1] - pair[0] > 1]
    low, high = rng.choice(gaps) if gaps else (known[-1], known[-1] + 2)
    number = rng.randrange(low + 1, high)
    width = len(match[0]) if match[0].startswith("0") or len(known) < 2 else 0
    name = f"{head}{number:0{width}d}{tail}"
    return None if name in taken else name


def _measure_like(files: list[tuple[int, int]], rng: random.Random) -> tuple[int, int]:
    """Return a size and a time that lie among those of *files*."""
    sizes = [size for size, _ in files]
    low, high = min(sizes), max(sizes)
    step = math.gcd(*(size - low for size in sizes)) or 1
    size = low + step * rng.randint(0, (high - low) // step)
    times = [at_ns for _, at_ns in files]
    mtime_ns = rng.randint(min(times), max(times))
    if all(at_ns % SECOND_NS == 0 for at_ns in times):
        mtime_ns -= mtime_ns % SECOND_NS
    return size, max(mtime_ns, min(times))
