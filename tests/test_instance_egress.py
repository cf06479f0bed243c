"""What researchers send is counted for root, in the stream of their reads, or no data is served."""

import json
import os
import socket
import subprocess
import threading
import time

import pytest

from nightingale_hub.errors import MountRefused
from nightingale_hub.instance import egress as egress_module
from nightingale_hub.instance.account import Account
from nightingale_hub.instance.bootstrap import Boot, Launch
from nightingale_hub.instance.data import Data
from nightingale_hub.instance.egress import Egress, find_nft, name_table, resolve
from tests.local_instance import wait_for

NOBODY = 65534
can_count = pytest.mark.skipif(
    os.geteuid() != 0 or find_nft() is None, reason="only root with nftables counts what is sent"
)
pytestmark = can_count


@pytest.fixture
def sink():
    """A listener that takes what comes, standing in for a hub; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def take():
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    while connection.recv(1 << 16):
                        pass

        threading.Thread(target=take, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def egress(sink):
    it = Egress(f"i-{os.urandom(6).hex()}", Account("nobody", NOBODY, NOBODY, True), [])
    it._hub = resolve("127.0.0.1", sink)
    yield it
    it.end()
    assert it._table not in list_tables()


def list_tables() -> str:
    listed = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True)
    return str(listed.stdout)


def nft(*arguments: str) -> None:
    subprocess.run(["nft", *arguments], check=True, capture_output=True)


def send(port: int, count: int, uid: int = NOBODY, unshare: bool = False) -> None:
    code = (
        "import socket, sys\n"
        "with socket.create_connection(('127.0.0.1', int(sys.argv[1]))) as s:\n"
        "    s.sendall(b'x' * int(sys.argv[2]))\n"
    )
    user = ["unshare", "-Ur"] if unshare else []
    command = [*user, "python3", "-S", "-c", code, str(port), str(count)]
    subprocess.run(command, user=uid, check=True, timeout=20)


def test_bytes_are_counted_by_destination_and_user(egress, sink):
    egress.start(server_port=1)
    before = egress.read()
    assert before is not None and before["local"] > 0 and before["hub"] == before["other"] == 0
    send(sink, 100_000)
    send(sink, 50_000, uid=0)
    sent = egress.read()
    # Packets have headers, and an acknowledgement is a packet.
    assert 100_000 <= sent["hub"] < 115_000
    with socket.create_server(("127.0.0.1", 0)) as other:
        send(other.getsockname()[1], 5_000)
    assert egress.read()["local"] - before["local"] >= 5_000
    code = "import socket; socket.socket(2, 2).sendto(b'x' * 900, ('192.0.2.1', 9))"
    subprocess.run(["python3", "-S", "-c", code], user=NOBODY, stderr=subprocess.DEVNULL)
    assert egress.read()["other"] in (0, 928)  # 0 where the machine has no way out


def send_to(address: str, uid: int, port: int = 80) -> str:
    """Return what becomes of a packet to *address*: nothing listens there, and none need come."""
    code = (
        "import socket, sys\n"
        "family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET\n"
        "with socket.socket(family, socket.SOCK_DGRAM) as s:\n"
        "    try: s.sendto(b'x', (sys.argv[1], int(sys.argv[2]))); print('sent')\n"
        "    except PermissionError: print('refused')\n"
        "    except OSError: print('no way there')\n"
    )
    command = ["python3", "-S", "-c", code, address, str(port)]
    done = subprocess.run(command, user=uid, check=True, timeout=20, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.mark.parametrize("address", egress_module.METADATA)
def test_the_clouds_word_on_the_instance_is_for_root_alone(egress, address):
    before = send_to(address, NOBODY)
    assert before == send_to(address, 0)
    if before == "no way there":
        pytest.skip(f"this machine has no route to {address}")
    egress.start(server_port=1)
    assert send_to(address, NOBODY) == "refused"
    assert send_to(address, 0) == "sent"
    assert egress.read() is not None


@pytest.mark.parametrize("port", [111, 2049, 20048])
def test_nobody_but_root_speaks_nfs(egress, port):
    assert send_to("127.0.0.1", NOBODY, port) == "sent"
    egress.start(server_port=1)
    assert send_to("127.0.0.1", NOBODY, port) == "refused"
    assert send_to("127.0.0.1", 0, port) == "sent"
    code = f"import socket; socket.create_connection(('127.0.0.1', {port}), timeout=0.2)"
    command = ["python3", "-S", "-c", code]
    said = subprocess.run(command, user=NOBODY, timeout=20, capture_output=True, text=True)
    assert "TimeoutError" in said.stderr, "TCP is stopped as well"


def test_rules_that_do_not_stop_nfs_are_refused(egress, monkeypatch):
    really = Egress._format
    monkeypatch.setattr(
        egress, "_format", lambda port: really(egress, port).replace("2049", "2050")
    )
    with pytest.raises(MountRefused, match="may send to port 2049, and so read a dataset past"):
        egress.start(server_port=1)


def test_in_a_cloud_no_data_is_served_without_the_rules(tmp_path):
    boot = Boot("http://127.0.0.1:1/", "i-1", "x", cloud="aws")
    launch = Launch(
        owner="alice", command=[], environment={}, home=tmp_path, system_user=None, vcpus=None,
        datasets=[], spool_limit_bytes=1 << 20, audit_limits={}, counts_egress=False,
        credential="x", api_nonce="x", audit_url="", metering_url="", console_url="",
        supervisor_url="",
    )  # fmt: skip
    data = Data(tmp_path, boot, launch, Account("nobody", NOBODY, NOBODY, True), "i-1")
    with pytest.raises(MountRefused, match=r"aws serves no data .*count_egress"):
        data.start(tmp_path / "at", 1, print, print, time.sleep)


def test_root_of_a_user_namespace_is_counted_and_cannot_touch_the_rules(egress, sink):
    egress.start(server_port=1)
    before = egress.read()
    send(sink, 30_000, unshare=True)
    assert egress.read()["hub"] - before["hub"] >= 30_000
    for command in (["nft", "flush", "ruleset"], ["nft", "delete", "table", "inet", egress._table]):
        for wrapper in ([], ["unshare", "-Ur"], ["unshare", "-Urn"]):
            subprocess.run([*wrapper, *command], user=NOBODY, capture_output=True)
    assert egress.read() is not None


def test_subordinate_ids_are_counted_too(egress, sink, tmp_path, monkeypatch):
    file = tmp_path / "subuid"
    file.write_text(f"{NOBODY}:2100000000:65536\n")
    monkeypatch.setattr(egress_module, "FILE", file)
    egress.start(server_port=1)
    send(sink, 20_000, uid=2100000999)
    assert egress.read()["hub"] >= 20_000


def test_what_is_left_in_a_connection_that_was_closed_is_counted(egress):
    egress.start(server_port=1)
    with socket.create_server(("127.0.0.1", 0)) as slow:
        before = egress.read()["local"]
        code = (
            "import socket, sys\n"
            "s = socket.socket()\n"
            "s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)\n"
            "s.connect(('127.0.0.1', int(sys.argv[1]))); s.setblocking(False); n = 0\n"
            "try:\n"
            "    while True: n += s.send(b'x' * 65536)\n"
            "except BlockingIOError: pass\n"
            "print(n)\n"
        )
        command = ["python3", "-S", "-c", code, str(slow.getsockname()[1])]
        said = subprocess.run(command, user=NOBODY, check=True, capture_output=True).stdout
        at_exit = egress.read()["local"] - before
        connection, _ = slow.accept()
        with connection:
            got = 0
            while data := connection.recv(1 << 16):
                got += len(data)
        assert got == int(said) > at_exit
        assert egress.read()["local"] - before >= got


@pytest.mark.parametrize(
    "change",
    [
        lambda table: nft("flush", "chain", "inet", table, "sent"),
        lambda table: nft("delete", "table", "inet", table),
        lambda table: nft("insert", "rule", "inet", table, "sent", "accept"),
    ],
)
def test_rules_that_are_not_as_they_were_count_as_none(egress, change):
    egress.start(server_port=1)
    assert egress.read() is not None
    change(egress._table)
    assert egress.read() is None


def test_rules_with_a_syntax_error_are_no_rules(egress, monkeypatch):
    monkeypatch.setattr(egress, "_format", lambda port: "table inet x { chain y { nonsense }")
    with pytest.raises(MountRefused, match=r"nft refused: .*count_egress"):
        egress.start(server_port=1)
    assert egress.read() is None


def test_rules_that_load_but_count_nothing_are_refused(egress, monkeypatch):
    really = Egress._format
    monkeypatch.setattr(
        egress, "_format", lambda port: really(egress, port).replace(f"{NOBODY}", "12345")
    )
    with pytest.raises(MountRefused, match="what nobody sends is not counted here"):
        egress.start(server_port=1)


def test_without_nft_no_data_is_served(egress, monkeypatch):
    monkeypatch.setattr(egress_module, "find_nft", lambda: None)
    with pytest.raises(MountRefused, match="nft is not installed"):
        egress.start(server_port=1)


def test_an_instance_records_what_its_researcher_sends(isolated_instance, sink):
    isolated_instance.hub.launch["counts_egress"] = True
    isolated_instance.add_dataset()
    isolated_instance.up_and_serving()
    table = name_table(isolated_instance.directory.name)
    assert table in list_tables()
    assert "is recorded" in isolated_instance.status["isolation"][0]
    assert isolated_instance.shell("cat ~/datasets/scans/scan.txt") == (0, "a scan\n")
    code = f"import socket as s; s.create_connection(('127.0.0.1', {sink})).sendall(b'x' * 70000)"
    assert isolated_instance.shell(f'python3 -c "{code}"')[0] == 0
    isolated_instance.down()
    sent: dict[str, int] = {}
    for record in isolated_instance.hub.records:
        if record["act"] == "egress":
            assert record["off"] == sent.get(record["path"], 0)
            sent[record["path"]] = record["off"] + record["len"]
    assert sent["local"] >= 70_000
    assert sent["hub"] > 0  # what the server answered
    assert table not in list_tables()


def test_an_instance_whose_rules_are_flushed_opens_no_more_and_says_so(
    isolated_instance, monkeypatch
):
    isolated_instance.hub.launch["counts_egress"] = True
    isolated_instance.add_dataset()
    isolated_instance.up_and_serving()
    assert isolated_instance.shell("cat ~/datasets/scans/scan.txt")[0] == 0
    nft("flush", "chain", "inet", name_table(isolated_instance.directory.name), "sent")
    isolated_instance.wait_for_fault("egress_uncounted")
    wait_for(lambda: isolated_instance.shell("cat ~/datasets/scans/scan.txt")[0] != 0)


def test_a_killed_agent_leaves_no_table_behind_down(isolated_instance):
    isolated_instance.hub.launch["counts_egress"] = True
    isolated_instance.add_dataset()
    isolated_instance.up_and_serving()
    os.kill(isolated_instance.agent.pid, 9)
    isolated_instance.down()
    assert name_table(isolated_instance.directory.name) not in list_tables()


def test_a_machine_where_nobody_counts_serves_no_data_and_says_which_setting(isolated_instance):
    isolated_instance.wrapper = ["setpriv", "--bounding-set=-net_admin"]
    isolated_instance.hub.launch["counts_egress"] = True
    isolated_instance.add_dataset()
    isolated_instance.up_and_serving()
    assert isolated_instance.status["datasets"] is None
    assert "count_egress" in isolated_instance.status["data_refused"]
    assert json.dumps(isolated_instance.status["isolation"]).count("is recorded") == 0


def test_each_address_of_the_hub_is_the_hub():
    assert ("127.0.0.1", 8000) in resolve("localhost", 8000)
    with pytest.raises(MountRefused, match="not known here"):
        resolve("no-such-host.invalid", 80)
