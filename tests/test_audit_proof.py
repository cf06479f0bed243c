"""The offline verifier proves an honest log and finds each edit of any row of it."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import func, insert, select

from nightingale_hub.clock import now_us
from nightingale_hub.database import Database
from nightingale_hub.instance import cli
from nightingale_hub.log_leaf import append_leaf, hash_text
from nightingale_hub.proof.verify import verify_file
from nightingale_hub.service import Context
from nightingale_hub.services.audit import log as audit_log
from nightingale_hub.services.audit.admin import main as admin
from nightingale_hub.services.audit.ends import end_streams
from nightingale_hub.services.audit.log import Log, LogSigner
from nightingale_hub.services.audit.sender import revoke
from nightingale_hub.services.billing import ledger
from nightingale_hub.settings import NightingaleHub
from nightingale_hub.tables.base import service_lease
from nightingale_hub.tables.customers import customer
from nightingale_hub.tables.documents import document
from nightingale_hub.tables.log import log_leaf
from tests.audit import add_instance, audit_service, make_lines

Members = dict[str, list[bytes]]
HOSTILE = "\x1b[31m\u202e=1+1<img src=x onerror=alert(1)>\n"


@dataclass(frozen=True)
class Proof:
    """A hub's log: its bundle, an older bundle of it, its witness and its key."""

    bundle: Path
    older: Path
    witness: Path
    key: str


def post(conn, number: int) -> None:
    """Post a journal and issue an invoice."""
    entries = (ledger.Entry("receivable:alice", 7), ledger.Entry("revenue:usage", -7))
    ledger.post(conn, ledger.Journal(f"segment:{number}", f"segment {HOSTILE}", entries), 1)
    content, pdf = f'{{"number":"INV-{number}"}}', b"%PDF"
    said = {"number": f"INV-{number}", "pdf_sha256": hashlib.sha256(pdf).hexdigest()}
    if number == 0:
        values = {"name": "C", "kind": "private", "currency": "USD", "created_us": 1}
        conn.execute(insert(customer).values(id="c", **values))
    conn.execute(
        insert(document).values(
            kind="invoice", customer="c", month=f"2026-{number:02d}", currency="USD",
            total_minor=7, content=content, pdf=pdf, issued_us=1, issued_by="carol",
            state="final", **said,
        )
    )  # fmt: skip
    append_leaf(conn, "invoice", {**said, "content_sha256": hash_text(content)}, 1)


@pytest.fixture(scope="module")
def proof(tmp_path_factory) -> Iterator[Proof]:
    import asyncio

    place = tmp_path_factory.mktemp("proof")
    database = Database(f"sqlite:///{place / 'hub.sqlite'}")
    database.upgrade()
    asyncio.run(make_history(database, place))
    settings = make_settings(database, place)
    yield Proof(
        place / "new.zip", place / "old.zip", place / "witness", LogSigner(settings).key.format()
    )
    database.dispose()


def make_settings(database, place) -> NightingaleHub:
    return NightingaleHub(
        state_dir=str(place / "state"),
        db_url=database.url,
        audit_witnesses=[str(place / "witness")],
    )


async def make_history(database, place) -> None:
    """Two instances' reads, journals and an admin's action, signed twice."""
    settings = make_settings(database, place)
    senders = [add_instance(database, owner) for owner in ("alice", "bob")]
    for name in ("old", "new"):
        async with audit_service(database, place / "state") as audit:
            for sender in senders:
                first = (len(sender.chains) and max(sender.chains) + 1) or 1
                for at in (first, first + 2):
                    await audit.send(sender, at, make_lines(at, at + 1, owner=sender.owner))
        with database.write() as conn:
            for number in range(2):
                post(conn, number + (name == "new") * 2)
            if name == "new":
                revoke(conn, senders[1].instance_id, "carol", HOSTILE, now_us())
                assert end_streams(conn, now_us() * 2) == 0
            epoch = conn.execute(select(func.max(service_lease.c.epoch))).scalar_one()
        await Log(Context("audit", settings, database, epoch)).step()
        with database.read() as conn:
            assert None not in conn.execute(select(log_leaf.c.position)).scalars().all()
        state = ["--state-dir", settings.state_dir, "--db-url", database.url]
        assert admin([*state, "export", str(place / f"{name}.zip")]) == 0
        assert admin([*state, "export", str(place / f"{name}.zip")]) == 2


def load(path: Path) -> Members:
    with zipfile.ZipFile(path) as bundle:
        return {name: bundle.read(name).splitlines() for name in bundle.namelist()}


def problems(path: Path, members: Members, proof: Proof) -> list[str]:
    with zipfile.ZipFile(path, "w") as bundle:
        for name, lines in members.items():
            bundle.writestr(name, b"".join(line + b"\n" for line in lines))
    return verify_file(path, proof.witness, proof.key).problems


def edits(line: bytes) -> Iterator[bytes]:
    """Every field of a row changed, one at a time."""
    row = json.loads(line)
    for name, value in row.items():
        changed: object
        if isinstance(value, list):
            changed = [["x", 1, "USD"], *value[1:]]
        elif isinstance(value, int):
            changed = value + 1
        else:
            changed = "x" + value[1:] if not value.startswith("x") else "y" + value[1:]
        yield json.dumps({**row, name: changed}).encode()


def provable(members: Members) -> list[tuple[str, int]]:
    """Every row that the log proves: not what the meter said, which is only compared."""
    names = [name for name in members if name not in ("bundle.json", "meter.ndjson")]
    return [(name, at) for name in names for at in range(len(members[name]))]


def test_the_honest_log_verifies(proof):
    verdict = verify_file(proof.bundle, proof.witness, proof.key)
    assert verdict.problems == [] and verdict.notes == []
    assert (verdict.batches, verdict.lines, verdict.journals) == (8, 16, 4)
    in_bundle = len(load(proof.bundle)["checkpoints.ndjson"])
    assert verdict.checkpoints == 2 * in_bundle, "the witness has the same"
    alone = verify_file(proof.bundle, None, None)
    assert alone.problems == [] and "no witness was given" in alone.notes[0]


def test_an_edit_of_any_field_of_any_row_is_found(proof, tmp_path):
    members = load(proof.bundle)
    missed = []
    for name, at in provable(members):
        for changed in edits(members[name][at]):
            lines = [*members[name][:at], changed, *members[name][at + 1 :]]
            if not problems(tmp_path / "b.zip", {**members, name: lines}, proof):
                missed.append((name, at, changed))
    assert missed == []


@pytest.mark.parametrize("what", ["deleted", "doubled", "swapped with the next"])
def test_any_row_deleted_doubled_or_out_of_order_is_found(proof, tmp_path, what):
    members = load(proof.bundle)
    missed = []
    for name, at in provable(members):
        lines = list(members[name])
        if what == "deleted":
            del lines[at]
        elif what == "doubled":
            lines.insert(at, lines[at])
        elif at + 1 < len(lines):
            lines[at], lines[at + 1] = lines[at + 1], lines[at]
        if name in ("journals.ndjson", "documents.ndjson") and what != "deleted":
            continue  # sets: their numbers order them
        if lines != members[name] and not problems(
            tmp_path / "b.zip", {**members, name: lines}, proof
        ):
            missed.append((name, at))
    assert missed == []


def test_every_cut_of_its_end_is_found(proof, tmp_path):
    members = load(proof.bundle)
    leaves = members["leaves.ndjson"]
    for kept in range(len(leaves)):
        cut = {**members, "leaves.ndjson": leaves[:kept]}
        assert problems(tmp_path / "b.zip", cut, proof), kept
        # And so when the checkpoints that tell of it are cut as well: the witness has them.
        cut["checkpoints.ndjson"] = members["checkpoints.ndjson"][:1]
        assert problems(tmp_path / "b.zip", cut, proof), kept


def test_a_file_of_lines_that_is_gone_is_found(proof, tmp_path):
    members = load(proof.bundle)
    for name in [name for name in members if name.startswith("lines/")]:
        rest = {each: lines for each, lines in members.items() if each != name}
        assert "its lines are missing" in problems(tmp_path / "b.zip", rest, proof)[0]


def test_an_old_copy_is_honest_by_itself_and_found_by_the_witness(proof):
    assert verify_file(proof.older, None, proof.key).problems == []
    found = verify_file(proof.older, proof.witness, proof.key).problems
    assert any("cut or old" in each for each in found)


def test_a_log_of_another_key_is_found(proof, tmp_path):
    other = LogSigner(NightingaleHub(state_dir=str(tmp_path))).key.format()
    assert verify_file(proof.bundle, None, other).problems


def test_a_payload_that_was_erased_is_said_and_is_no_edit(proof, tmp_path):
    members = load(proof.bundle)
    rows = [json.loads(line) for line in members["leaves.ndjson"]]
    (at,) = [n for n, row in enumerate(rows) if row["kind"] == "credential_revoked"]
    rows[at]["payload"] = None
    members["leaves.ndjson"] = [json.dumps(row).encode() for row in rows]
    path = tmp_path / "b.zip"
    assert problems(path, members, proof) == []
    assert verify_file(path, proof.witness, proof.key).notes == [
        f"leaf {at}: its payload was erased"
    ]


@pytest.mark.parametrize(
    "content", [b"", b"PK", b"{}", "a bundle without its about", "leaves that are no JSON"]
)
def test_what_is_no_bundle_is_named_and_proves_nothing(proof, tmp_path, content, capsys):
    path = tmp_path / "b.zip"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        members = load(proof.bundle)
        if "JSON" in content:
            members["leaves.ndjson"] = [b"{"]
        else:
            del members["bundle.json"]
        with zipfile.ZipFile(path, "w") as bundle:
            for name, lines in members.items():
                bundle.writestr(name, b"\n".join(lines))
    is_read = content == "leaves that are no JSON"
    assert cli.main(["audit", "verify", str(path)]) == (11 if is_read else 2)
    said = "not as the hub writes it" if is_read else "no bundle of the audit log"
    assert said in "".join(capsys.readouterr())


def test_the_command_says_what_holds_and_what_does_not(proof, tmp_path, capsys):
    witness = ["--witness", str(proof.witness), "--key", proof.key]
    assert cli.main(["audit", "verify", str(proof.bundle), *witness]) == 0
    assert capsys.readouterr().out.startswith("verified: ")
    assert cli.main(["audit", "--json", "verify", str(proof.older), *witness]) == 11
    assert json.loads(capsys.readouterr().out)["problems"]
    assert cli.main(["audit", "verify", str(proof.older), *witness]) == 11
    assert "NOT PROVEN" in capsys.readouterr().out
    assert cli.main(["audit", "verify", str(tmp_path / "none.zip")]) == 2
    assert cli.main(["audit", "verify", str(proof.bundle), "--witness", str(tmp_path)]) == 2
    assert cli.main(["audit", "verify", str(proof.bundle), "--key", "no key"]) == 11


def test_a_hostile_name_does_not_drive_the_terminal_of_who_verifies(proof, tmp_path, capsys):
    members = load(proof.bundle)
    rows = [json.loads(line) for line in members["leaves.ndjson"]]
    for row in rows:
        if row["kind"] == "batch":
            payload = json.loads(row["payload"])
            row["payload"] = json.dumps({**payload, "stream_id": HOSTILE})
    members["leaves.ndjson"] = [json.dumps(row).encode() for row in rows]
    assert problems(tmp_path / "b.zip", members, proof)
    assert cli.main(["audit", "verify", str(tmp_path / "b.zip")]) == 11
    out = capsys.readouterr().out
    assert out.isascii() and "\x1b" not in out and "\\x1b" in out


def test_the_verifier_is_one_file_that_runs_without_this_project(proof, tmp_path, capsys):
    file = tmp_path / "verifier.pyz"
    assert cli.main(["audit", "verifier", str(file)]) == 0
    moved = shutil.copy(file, tmp_path / "elsewhere.pyz")
    command = [sys.executable, "-S", "-E", str(moved), str(proof.bundle)]
    # Only `cryptography` and what it needs can be imported there.
    only = tmp_path / "only"
    only.mkdir()
    site = Path(os.__file__).parent
    for path in sys.path:
        for name in ("cryptography", "cffi", "_cffi_backend*", "pycparser"):
            for each in Path(path).glob(name):
                if site not in each.parents and not (only / each.name).exists():
                    (only / each.name).symlink_to(each)
    code = f"import sys, runpy; sys.path.insert(0, {str(only)!r}); sys.argv = sys.argv[1:]; " + (
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    command = [sys.executable, "-S", "-E", "-c", code, str(moved), str(proof.bundle)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert "verified: " in done.stdout
    broken = [*command[:-1], str(proof.older), "--witness", str(proof.witness)]
    done = subprocess.run(broken, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1


def test_the_admins_key_and_revocation(proof, tmp_path, database, capsys):
    sender = add_instance(database)
    state = ["--state-dir", str(tmp_path), "--db-url", database.url]
    assert admin([*state, "key"]) == 0
    assert capsys.readouterr().out.startswith("nightingale-hub/nightingale+")
    for said in ("revoked\n", "was revoked before\n"):
        assert admin([*state, "revoke", sender.instance_id, "--reason", "stolen"]) == 0
        assert capsys.readouterr().out == said
    assert admin([*state, "revoke", "i-none", "--reason", "x"]) == 4
    assert admin(["--state-dir", str(tmp_path / "none"), "key"]) == 2
    assert audit_log.SIGN_EVERY_US == 60_000_000
