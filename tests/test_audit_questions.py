"""Who read this file, what did this person read, and what did this run read, signed."""

import json

import pytest

from nightingale_hub.instance import cli
from nightingale_hub.proof.manifest import verify_manifest
from nightingale_hub.services.audit.log import LogSigner
from nightingale_hub.settings import NightingaleHub
from tests.audit import AT_US, CONSOLE, add_instance, audit_service, make_line

READS = [
    # owner, act, dataset, path, bytes, pid, executable
    ("alice", "open", "dicom", "CT/1.dcm", 0, 7, "/usr/bin/python3"),
    ("alice", "read", "dicom", "CT/1.dcm", 100, 7, "/usr/bin/python3"),
    ("alice", "read", "dicom", "CT/1.dcm", 50, 8, "/usr/bin/cp"),
    ("alice", "read", "ecg", "a.csv", 10, 7, "/usr/bin/python3"),
    ("bob", "read", "dicom", "CT/1.dcm", 1, 9, "/usr/bin/cat"),
    ("bob", "denied", "dicom", "CT/2.dcm", 0, 9, "/usr/bin/cat"),
]


@pytest.fixture
async def audit(database, tmp_path):
    async with audit_service(database, tmp_path / "state") as client:
        yield client


async def store(database, audit):
    senders = {owner: add_instance(database, owner) for owner in ("alice", "bob")}
    for owner, sender in senders.items():
        lines = [
            make_line(
                seq, owner=owner, ts=AT_US + seq, act=act, ds=ds, path=path, len=size, pid=pid,
                exe=exe,
            )
            for seq, (_, act, ds, path, size, pid, exe) in enumerate(
                (each for each in READS if each[0] == owner), 1
            )
        ]  # fmt: skip
        await audit.send(sender, 1, lines)
        await audit.wait_indexed(sender, len(lines))
    return senders


async def test_who_read_this_file(database, audit):
    await store(database, audit)
    found = await audit.ask("readers", dataset="dicom", path="CT/1.dcm")
    assert found["readers"] == [
        {
            "owner": "alice", "opens": 1, "reads": 2, "bytes": 150,
            "first_us": AT_US + 1, "last_us": AT_US + 3,
        },
        {
            "owner": "bob", "opens": 0, "reads": 1, "bytes": 1,
            "first_us": AT_US + 1, "last_us": AT_US + 1,
        },
    ]  # fmt: skip
    later = await audit.ask("readers", dataset="dicom", path="CT/*", since_us=AT_US + 2)
    assert [(each["owner"], each["bytes"]) for each in later["readers"]] == [
        ("alice", 150),
        ("bob", 0),
    ]


async def test_what_did_this_person_read(database, audit):
    await store(database, audit)
    found = await audit.ask("files", owner="alice")
    assert [(each["dataset"], each["path"], each["bytes"]) for each in found["files"]] == [
        ("dicom", "CT/1.dcm", 150),
        ("ecg", "a.csv", 10),
    ]
    first = await audit.ask("files", owner="alice", limit=1)
    assert first["next"] == ["dicom", "CT/1.dcm"]
    second = await audit.ask(
        "files", owner="alice", limit=1, after_dataset="dicom", after_path="CT/1.dcm"
    )
    assert [each["path"] for each in second["files"]] == ["a.csv"]


async def test_reads_are_found_by_process_and_by_time(database, audit):
    senders = await store(database, audit)
    alice = senders["alice"].instance_id
    for query, seqs in (
        ({"instance": alice, "pid": 7}, [4, 2, 1]),
        ({"executable": "/usr/bin/cp"}, [3]),
        ({"instance": alice, "executable": "/usr/bin/cat"}, []),
        ({"owner": "alice", "path": "CT/1.dcm", "since_us": AT_US + 2}, [3, 2]),
        ({"owner": "bob", "path": "CT/1.dcm"}, [1]),
        ({"owner": "nobody", "path": "CT/1.dcm"}, []),
    ):
        found = await audit.ask("reads", **query)
        assert [each["seq"] for each in found["reads"]] == seqs, query


async def test_what_did_this_run_read_is_a_manifest_that_the_log_signed(
    database, audit, tmp_path, capsys
):
    senders = await store(database, audit)
    alice = senders["alice"]
    signed = await audit.ask(f"manifests/{alice.instance_id}")
    key = LogSigner(NightingaleHub(state_dir=str(tmp_path / "state"))).key
    manifest = verify_manifest(json.dumps(signed).encode(), key)
    assert (manifest["owner"], manifest["pid"]) == ("alice", None)
    assert [(each["path"], each["bytes"]) for each in manifest["files"]] == [
        ("CT/1.dcm", 150),
        ("a.csv", 10),
    ]
    (stream,) = manifest["streams"]
    assert (stream["last_seq"], stream["chain"]) == (4, alice.chains[4])
    one = await audit.ask(f"manifests/{alice.instance_id}", pid=8)
    assert [each["bytes"] for each in one["manifest"]["files"]] == [50]
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(signed))
    assert cli.main(["audit", "manifest", str(path), "--key", key.format()]) == 0
    assert "2 files" in capsys.readouterr().out
    for change in (
        lambda m: m["manifest"]["files"].pop(),
        lambda m: m["manifest"]["files"][0].update(bytes=1),
        lambda m: m["manifest"].update(owner="bob"),
        lambda m: m.update(note=one["note"]),
        lambda m: m.clear(),
    ):
        touched = json.loads(json.dumps(signed))
        change(touched)
        path.write_text(json.dumps(touched))
        assert cli.main(["audit", "manifest", str(path), "--key", key.format()]) == 11
    path.write_text("{")
    assert cli.main(["audit", "manifest", str(path), "--key", key.format()]) == 11
    assert cli.main(["audit", "manifest", str(tmp_path / "no"), "--key", key.format()]) == 2
    assert cli.main(["audit", "manifest", str(path), "--key", "none"]) == 2


async def test_a_run_that_read_nothing_has_no_manifest(database, audit):
    sender = add_instance(database)
    response = await audit.http.get(f"api/manifests/{sender.instance_id}", headers=CONSOLE)
    assert response.status_code == 404
