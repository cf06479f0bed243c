"""Kills the audit daemon under readers, again and again, and holds each record against each read.

Every read that a reader got must stand in the log once, and nothing else may; every open must be
released; no reader may hang or see an error. Kills that hit a request in flight are counted: the
next daemon says which requests came again.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.audit_mount import LIMIT_S, AuditMount

KILLS = 1000
READERS = 4
FILES = 8
FILE_BYTES = 1 << 20
ROOT = Path(__file__).parents[2]
# Longer than a daemon must live to be followed at once.
LIVES_S = (0.21, 0.35)


def run(sample: int | None, seed: int) -> tuple[str, bool]:
    """Kill *sample* times, or 1,000; return what came of it, and whether all was well."""
    rng = random.Random(seed)
    kills = KILLS if sample is None else sample
    with tempfile.TemporaryDirectory(prefix="nightingale-soak-") as folder:
        # Nothing is shipped here, and the gate would close by itself after a minute.
        patience = {"refuse_opens_after_s": 86_400, "refuse_reads_after_s": 86_400}
        mount = AuditMount(Path(folder), guard=patience | {"stop_after_s": 86_400})
        for number in range(FILES):
            (mount.data / str(number)).write_bytes(rng.randbytes(FILE_BYTES))
        mount.start()
        readers = [_start_reader(mount, seed * 100 + number) for number in range(READERS)]
        try:
            slowest_s = max(_kill(mount, rng) for _ in range(kills))
            outputs = [_finish(reader) for reader in readers]
        finally:
            for reader in readers:
                reader.kill()
                reader.communicate()
            stopped = mount.stop()
            mount.clean()
        return _judge(mount, outputs, kills, slowest_s, seed, stopped)


def _start_reader(mount: AuditMount, seed: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.soak.audit", str(mount.top), str(mount.data), str(seed)]
    return subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def _kill(mount: AuditMount, rng: random.Random) -> float:
    """Kill the daemon after a while, and return the seconds until the next one serves."""
    time.sleep(rng.uniform(*LIVES_S))
    old = mount.kill_daemon()
    begun = time.monotonic()
    while mount.daemon_pid in (old, mount.process.pid):
        if time.monotonic() - begun > LIMIT_S:
            raise AssertionError("no daemon came back")
        time.sleep(0.002)
    os.statvfs(mount.mountpoint)  # The new one answers this.
    return time.monotonic() - begun


def _finish(reader: "subprocess.Popen[str]") -> dict[str, list[list[int]]]:
    output, _ = reader.communicate("", timeout=LIMIT_S)
    found: dict[str, list[list[int]]] = json.loads(output)
    return found


def _judge(
    mount: AuditMount,
    outputs: list[dict[str, list[list[int]]]],
    kills: int,
    slowest_s: float,
    seed: int,
    stopped: int,
) -> tuple[str, bool]:
    done = Counter(
        (file, offset, size, pid)
        for output in outputs
        for file, offset, size, pid in output["reads"]
    )
    opens = sum(len(output["opens"]) for output in outputs)
    events = mount.events()
    recorded = Counter(
        (int(e["path"]), e["off"], e["len"], e["pid"]) for e in events if e["act"] == "read"
    )
    acts = Counter(event["act"] for event in events)
    again = mount.errors.read_text().count(" comes again")
    lost, doubled = done - recorded, recorded - done
    errors = [each for output in outputs for each in output["errors"]]
    is_well = not (lost or doubled or errors or stopped or not again)
    is_well = is_well and acts["open"] == acts["release"] == opens
    text = f"""# Soak: the audit daemon is killed under load

`bin/soak audit{"" if kills == KILLS else f" --sample {kills}"} --seed {seed}`: {READERS} readers \
open, read at random and close, while the daemon is killed with `kill -9`.

| What | Count |
|---|---|
| kills | {kills} |
| requests that a kill hit in flight, sent again | {again} |
| reads that readers got | {sum(done.values())} |
| reads recorded | {sum(recorded.values())} |
| reads not recorded | {sum(lost.values())} |
| records of no read, or doubled | {sum(doubled.values())} |
| opens: by readers, recorded, released | {opens}, {acts["open"]}, {acts["release"]} |
| errors that a reader saw | {len(errors)} |
| slowest return to service, seconds | {slowest_s:.2f} |

{"All is well." if is_well else "SOMETHING IS BROKEN."}
"""
    return text, is_well


def read_until_told(top: Path, source: Path, seed: int) -> None:
    """Open, read at random and close until stdin ends; print what was done as JSON."""
    rng = random.Random(seed)
    found: dict[str, list[object]] = {"opens": [], "reads": [], "errors": []}
    contents = [(source / str(number)).read_bytes() for number in range(FILES)]
    os.set_blocking(0, False)
    while not _is_ended():
        number = rng.randrange(FILES)
        try:
            fd = os.open(top / str(number), os.O_RDONLY)
            found["opens"].append(number)
            for _ in range(rng.randrange(20)):
                offset, size = rng.randrange(FILE_BYTES - 5000), rng.randrange(1, 5000)
                data = os.pread(fd, size, offset)
                if data != contents[number][offset : offset + size]:
                    raise OSError(0, f"wrong bytes of {number} at {offset}")
                found["reads"].append((number, offset, size, os.getpid()))
            os.close(fd)
            # So that a long run leaves a log that can be held in memory and compared.
            time.sleep(rng.uniform(0, 0.02))
        except OSError as error:
            found["errors"].append(str(error))
    print(json.dumps(found))


def _is_ended() -> bool:
    try:
        return os.read(0, 1) == b""
    except BlockingIOError:
        return False


if __name__ == "__main__":
    read_until_told(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
