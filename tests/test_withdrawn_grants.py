"""Only what is granted is mounted, and what is withdrawn opens no more, in a running instance."""

import secrets

from nightingale_hub.auth import sha256_hex
from nightingale_hub.datasets import Dataset, ensure_dataset, grant, list_granted, withdraw
from nightingale_hub.services.supervisor.service import make
from tests.local_instance import wait_for
from tests.record import add_instance
from tests.serving import serving

CREDENTIAL = secrets.token_hex(32)


async def ask(client, token=CREDENTIAL):
    answer = await client.post("grants", token, json={})
    return answer.status_code, answer.json().get("datasets")


async def test_an_agent_is_told_what_its_owner_may_open_now(database, monkeypatch):
    monkeypatch.setenv("JUPYTERHUB_API_URL", "http://127.0.0.1:9/hub/api")
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "of-the-supervisor")
    with database.write() as conn:
        add_instance(conn, actual="running", credential_sha256=sha256_hex(CREDENTIAL))
        for name in ("ct", "ecg", "mri"):
            ensure_dataset(conn, Dataset(name, name, "", "", f"/data/{name}"))
        grant(conn, "ct", "alice", 1)
        grant(conn, "ecg", "*", 1)
        grant(conn, "mri", "bob", 1)
    async with serving("supervisor", database, make) as (client, _):
        assert await ask(client) == (200, ["ct", "ecg"])
        with database.write() as conn:
            assert withdraw(conn, "ct", "alice")
            assert not withdraw(conn, "ct", "alice")
        assert await ask(client) == (200, ["ecg"])
        assert (await ask(client, secrets.token_hex(32)))[0] == 403
        assert (await ask(client, "alice-token"))[0] == 403


def test_a_withdrawn_grant_is_no_one_elses(database):
    with database.write() as conn:
        ensure_dataset(conn, Dataset("ct", "CT", "", "", "/data/ct"))
        for grantee in ("alice", "bob"):
            grant(conn, "ct", grantee, 1)
        withdraw(conn, "ct", "alice")
        assert [row.name for row in list_granted(conn, "bob")] == ["ct"]
        assert list_granted(conn, "alice") == []


def test_a_dataset_withdrawn_from_a_running_instance_opens_no_more(isolated_instance):
    isolated_instance.add_dataset()
    [scans] = isolated_instance.hub.launch["datasets"]
    second = isolated_instance.data.parent / "ecgs"
    second.mkdir()
    (second / "ecg.txt").write_text("an ECG\n")
    isolated_instance.hub.launch["datasets"] += [{**scans, "name": "ecgs", "path": str(second)}]
    isolated_instance.hub.granted = ["scans", "ecgs"]
    isolated_instance.up_and_serving()
    listed = isolated_instance.shell("ls ~/datasets/")[1].split()
    assert listed == ["AUDIT-STATUS.txt", "ecgs", "scans"]
    assert isolated_instance.shell("cat ~/datasets/*/*.txt") == (0, "an ECG\na scan\n")
    isolated_instance.hub.granted = ["ecgs"]
    wait_for(lambda: isolated_instance.shell("cat ~/datasets/scans/scan.txt")[0] != 0)
    assert "Permission denied" in isolated_instance.shell("cat ~/datasets/scans/scan.txt")[1]
    assert isolated_instance.shell("cat ~/datasets/ecgs/ecg.txt") == (0, "an ECG\n")
    assert "scans: no longer" in isolated_instance.shell("cat ~/datasets/AUDIT-STATUS.txt")[1]
    isolated_instance.hub.granted = None  # A hub that does not answer changes nothing.
    assert isolated_instance.shell("cat ~/datasets/scans/scan.txt")[0] != 0
    isolated_instance.hub.granted = ["scans", "ecgs"]
    wait_for(lambda: isolated_instance.shell("cat ~/datasets/scans/scan.txt")[0] == 0)


def test_an_instance_in_the_dark_says_so_and_ends_with_its_records_kept(isolated_instance):
    isolated_instance.hub.takes_records = False
    isolated_instance.add_dataset()
    isolated_instance.hub.launch["audit_limits"] = {
        "refuse_opens_after_s": 2,
        "refuse_reads_after_s": 4,
        "stop_after_s": 8,
    }
    isolated_instance.up_and_serving()
    assert isolated_instance.shell("cat ~/datasets/scans/scan.txt") == (0, "a scan\n")
    wait_for(lambda: isolated_instance.status["audit"]["state"] == "opens_refused")
    status = isolated_instance.status["audit"]
    assert status["says"].startswith("new opens are refused")
    assert "has not stored the oldest record" in status["why"]
    assert isolated_instance.shell("cat ~/datasets/scans/scan.txt")[0] != 0
    notice = isolated_instance.shell("cat ~/datasets/AUDIT-STATUS.txt")[1]
    assert "stopped: save your work" in notice
    isolated_instance.wait_for_fault("audit_opens_refused")
    isolated_instance.wait_for_fault("audit_reads_refused")
    isolated_instance.wait_for_fault("audit_dark")
    # Its agent proves to the meter that the platform failed it, for as long as it did.
    told = [each for beat in isolated_instance.hub.beats for each in beat["failures"]]
    causes, since = {each[0] for each in told}, {each[1] for each in told}
    assert causes == {"records"} and len(since) == 1
    isolated_instance.hub.takes_records = True
    isolated_instance.down()
    acts = [record["act"] for record in isolated_instance.hub.records]
    assert {"open", "read", "denied"} <= set(acts)
