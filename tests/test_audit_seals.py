"""Seals: what is sent again is the same batch, and an edit of a recorded line shows."""

import json
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from nightingale_hub.audit_chain import (
    Signer,
    begin,
    compute_root,
    extend,
    find_flaw,
    is_open_signed,
)
from nightingale_hub.errors import Conflict
from nightingale_hub.fuse_audit.frames import list_files
from nightingale_hub.fuse_audit.receipt import find_receipt, save_receipt
from nightingale_hub.fuse_audit.seals import Seals, load_signer
from nightingale_hub.fuse_audit.spool import Spool
from tests.audit_mount import LIMIT_S
from tests.audit_service import Service, Shipping, dies_after_storing

STREAM = "i-1:b-1"
LARGE = 1 << 30
SEED = bytes(range(32))
LINES = [b'{"v":1,"seq":%d}' % seq for seq in range(1, 8)]


@pytest.fixture
def service():
    it = Service()
    yield it
    it.shutdown()
    it.server_close()


@dataclass
class Sealed:
    """The spool of one stream."""

    directory: str

    def open(self) -> Seals:
        return Seals(self.directory, STREAM, load_signer(self.directory, STREAM))


@pytest.fixture
def sealed(tmp_path):
    return Sealed(str(tmp_path))


def write(place: Path, count: int) -> None:
    spool = Spool(str(place / "spool"), LARGE)
    for number in range(count):
        spool.append(b'"n":%d}' % number, may_pass_limit=False)
    spool.close()


def wait_until(is_so, explain=lambda: "it did not come to be"):
    ends = time.monotonic() + LIMIT_S
    while not is_so():
        assert time.monotonic() < ends, explain()
        time.sleep(0.02)


# ref: https://github.com/transparency-dev/merkle/blob/main/testonly/constants.go
@pytest.mark.parametrize(
    ("count", "root"),
    [
        (1, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"),
        (2, "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"),
        (3, "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"),
        (5, "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4"),
        (8, "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"),
    ],
)
def test_a_root_is_that_of_rfc_6962(count, root):
    leaves = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657"]
    leaves.append("606162636465666768696a6b6c6d6e6f")
    assert compute_root([bytes.fromhex(each) for each in leaves[:count]]) == root


def test_a_seal_is_what_the_paper_says_and_no_change_passes():
    signer = Signer(SEED)
    start = begin(STREAM, signer.public_key)
    first = signer.seal(start, 1, LINES[:3])
    second = signer.seal(first.chain, 4, LINES[3:])
    assert (first.first_seq, first.last_seq, second.first_seq, second.last_seq) == (1, 3, 4, 7)
    assert second.chain == extend(first.chain, compute_root(LINES[3:]), 4, 7)
    assert find_flaw(second, LINES[3:], signer.public_key) is None
    other = Signer(SEED[::-1]).public_key
    for seal, lines, key in (
        (second, LINES[2:6], signer.public_key),
        (second._replace(first_seq=5), LINES[3:], signer.public_key),
        (second._replace(prev_chain=start), LINES[3:], signer.public_key),
        (second._replace(signature=first.signature), LINES[3:], signer.public_key),
        (second._replace(signature="zz"), LINES[3:], signer.public_key),
        (second, LINES[3:], other),
    ):
        assert find_flaw(seal, lines, key)
    assert begin("i-2:b-1", signer.public_key) != start


def test_only_who_has_the_key_announces_it():
    signer, other = Signer(SEED), Signer(SEED[::-1])
    assert is_open_signed(STREAM, signer.public_key, signer.sign_open(STREAM))
    assert not is_open_signed("i-2:b-1", signer.public_key, signer.sign_open(STREAM))
    assert not is_open_signed(STREAM, other.public_key, signer.sign_open(STREAM))
    assert not is_open_signed(STREAM, "no key", signer.sign_open(STREAM))


def test_a_key_is_made_once_per_stream_and_closed_to_others(tmp_path):
    key = load_signer(str(tmp_path), STREAM).public_key
    assert load_signer(str(tmp_path), STREAM).public_key == key
    assert (tmp_path / "stream.json").stat().st_mode & 0o777 == 0o600
    with pytest.raises(Conflict, match=f"is of stream {STREAM}, not of i-2:b-1"):
        load_signer(str(tmp_path), "i-2:b-1")
    (tmp_path / "stream.json").write_text("{}")
    with pytest.raises(Conflict, match="holds no stream's key"):
        load_signer(str(tmp_path), STREAM)


def test_a_torn_seal_is_cut_and_made_again_the_same(sealed, tmp_path):
    seals = sealed.open()
    seals.seal(LINES[:3])
    last = seals.seal(LINES[3:])
    file = tmp_path / "seals.ndjson"
    file.write_bytes(file.read_bytes()[:-5])
    again = sealed.open()
    assert again.next_seq == 4
    assert again.seal(LINES[3:]) == last
    assert sealed.open().find(5) == last


def test_seals_are_dropped_with_their_lines_but_never_the_head(sealed, monkeypatch):
    monkeypatch.setattr("nightingale_hub.fuse_audit.seals._COMPACT_BYTES", 1000)
    seals = sealed.open()
    for _ in range(5):
        head = seals.seal(LINES)
    seals.forget(36)
    again = sealed.open()
    assert (again.find(35), again.find(28), again.next_seq) == (head, None, 36)
    assert again.seal(LINES).prev_chain == head.chain


def test_a_line_that_was_changed_after_its_seal_stops_the_shipper(service, tmp_path):
    write(tmp_path, 10)
    spool = str(tmp_path / "spool")
    Seals(spool, STREAM, load_signer(spool, STREAM)).seal(
        [b'{"v":1,"seq":%d,"n":%d}' % (n + 1, n) for n in range(9)] + [b'{"v":1,"seq":10,"n":0}']
    )
    with Shipping(tmp_path, service.server_port) as shipping:
        assert shipping.process.wait(LIMIT_S) == 1
        assert "lines 1 to 10 of the spool were changed" in shipping.errors.read_text()
    assert service.lines == []


def test_a_batch_is_sent_again_as_it_was_over_kills_of_both_ends(service, tmp_path):
    service.faults = [dies_after_storing] * 3
    write(tmp_path, 100)
    with Shipping(tmp_path, service.server_port) as shipping:
        for tries in range(1, 4):
            wait_until(lambda tries=tries: service.tries >= tries)
            shipping.process.kill()
            shipping.process.wait()
            write(tmp_path, 50)
            shipping.start()
        wait_until(lambda: len(service.lines) == 250)
        assert shipping.stop() == 0
    chains: dict[int, set[str]] = {}
    for seal in service.sent:
        chains.setdefault(seal.first_seq, set()).add(seal.chain)
    assert len(service.sent) > len(chains)
    assert all(len(each) == 1 for each in chains.values())


def test_lines_are_sealed_while_the_service_is_away(service, tmp_path):
    service.shutdown()
    service.server_close()
    write(tmp_path, 20)
    with Shipping(tmp_path, service.server_port) as shipping:
        file = tmp_path / "spool" / "seals.ndjson"
        wait_until(lambda: file.exists() and file.stat().st_size, shipping.errors.read_text)
        spool = str(tmp_path / "spool")
        assert Seals(spool, STREAM, load_signer(spool, STREAM)).next_seq == 21


def test_a_service_that_takes_no_keys_yet_still_gets_the_lines(service, tmp_path):
    service.open_status = 404
    write(tmp_path, 5)
    with Shipping(tmp_path, service.server_port) as shipping:
        wait_until(lambda: len(service.lines) == 5)
        assert shipping.stop() == 0


def test_a_service_that_forgot_the_stream_is_told_its_key_again(service, tmp_path):
    def knows_no_stream(service, handler) -> bool:
        handler.answer(409, {"error": {"code": "not_open", "message": "open it first"}})
        service.keys.clear()
        return True

    service.faults = [knows_no_stream]
    write(tmp_path, 5)
    with Shipping(tmp_path, service.server_port) as shipping:
        wait_until(lambda: len(service.lines) == 5)
        assert shipping.stop() == 0
    assert len(service.keys) == 1


def test_a_shipper_with_nothing_to_send_ends_though_nobody_answers(service, tmp_path):
    service.shutdown()
    service.server_close()
    with Shipping(tmp_path, service.server_port) as shipping:
        wait_until(lambda: "next try" in shipping.errors.read_text())
        assert shipping.stop() == 0


def test_a_receipt_says_what_was_acknowledged(service, tmp_path):
    write(tmp_path, 30)
    with Shipping(tmp_path, service.server_port) as shipping:
        wait_until(lambda: len(service.lines) == 30)
        assert shipping.stop() == 0
    receipt = find_receipt(str(tmp_path / "spool"))
    assert receipt is not None and receipt.ack == 30
    assert [file.first_seq for file in list_files(str(tmp_path / "spool"))] == [1]


def test_a_torn_receipt_is_none(tmp_path):
    save_receipt(str(tmp_path), 5)
    (tmp_path / "receipt.json").write_text(json.dumps({"ack": 5})[:-2])
    assert find_receipt(str(tmp_path)) is None
