"""Each target: what arrives is the published format, at least once, inert, whatever answers."""

import json
import socket
import ssl
import threading
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from nightingale_hub.errors import Unavailable
from nightingale_hub.ports import find_free_ports
from nightingale_hub.services.audit.event import parse_lines
from nightingale_hub.services.audit.export import syslog
from nightingale_hub.services.audit.export.datadog import Datadog
from nightingale_hub.services.audit.export.elasticsearch import Elasticsearch
from nightingale_hub.services.audit.export.lines import Lines
from nightingale_hub.services.audit.export.otlp import Otlp
from nightingale_hub.services.audit.export.record import Record, record_event, record_finding
from nightingale_hub.services.audit.export.syslog import Syslog
from nightingale_hub.services.audit.export.target import Target
from tests.audit import AT_US, make_line
from tests.receivers import (
    DatadogReceiver,
    ElasticsearchReceiver,
    OtlpReceiver,
    Receiver,
    check_ecs,
    make_certificate,
    running_rsyslog,
)
from tests.test_audit_index import HOSTILE

STREAM = "i-1:b-1"
BIDI_OR_CONTROL = {*map(chr, [*range(32), *range(0x7F, 0xA0)]), *"\u202a\u202e\u2066\u200b\ufeff"}
NOW_US = AT_US + 60_000_000


def make_records(paths: Sequence[str], **fields: Any) -> list[Record]:
    lines = b"".join(make_line(n, path=p, **fields) + b"\n" for n, p in enumerate(paths, 1))
    return [record_event(e, STREAM, "i-1", NOW_US) for e in parse_lines(lines)]


def make_alert(reason: str = "why", subject: str = "user:alice") -> Record:
    row = SimpleNamespace(id=7, at_us=NOW_US, kind="R3", severity="high", subject=subject)
    return record_finding(row, {"reason": reason, "dataset": "dicom", "version": 1})


SOME = make_records([f"CT/{n}.dcm" for n in range(1, 2501)])


@pytest.fixture
def elastic():
    with ElasticsearchReceiver() as receiver:
        yield receiver
        receiver.shutdown()


@pytest.fixture
def otlp():
    with OtlpReceiver() as receiver:
        yield receiver
        receiver.shutdown()


@pytest.fixture
def datadog():
    with DatadogReceiver(NOW_US) as receiver:
        yield receiver
        receiver.shutdown()


def target_of(receiver: Receiver) -> Target:
    if isinstance(receiver, ElasticsearchReceiver):
        return Elasticsearch(receiver.url, "audit", "s3cret", None)
    if isinstance(receiver, OtlpReceiver):
        return Otlp(receiver.url, "s3cret", None)
    return Datadog(receiver.url, "s3cret", None, clock=lambda: NOW_US)


def keys_of(receiver: Any) -> list[str]:
    if isinstance(receiver, ElasticsearchReceiver):
        return list(receiver.documents)
    if isinstance(receiver, OtlpReceiver):
        return receiver.keys()
    return [entry["event"]["id"] for entry in receiver.entries]


@pytest.fixture(params=["elastic", "otlp", "datadog"])
def receiver(request):
    return request.getfixturevalue(request.param)


async def test_every_document_arrives_in_the_published_format(receiver):
    target = target_of(receiver)
    assert await target.send([*SOME, make_alert()]) == []
    await target.close()
    assert receiver.wrong == []
    assert sorted(keys_of(receiver)) == sorted([*(each.key for each in SOME), "finding:7"])
    assert receiver.requests == 3


@pytest.mark.parametrize("status", [401, 403, 408, 429, 500, 502, 503, 504])
async def test_a_receiver_that_cannot_now_gets_everything_again(receiver, status):
    target = target_of(receiver)
    receiver.faults = [(status, {})]
    with pytest.raises(Unavailable):
        await target.send(SOME[:5])
    assert await target.send(SOME[:5]) == []
    await target.close()
    assert set(keys_of(receiver)) == {each.key for each in SOME[:5]}


async def test_a_receiver_that_hangs_up_gets_everything_again(receiver):
    target = target_of(receiver)
    receiver.faults = [lambda handler: handler.connection.shutdown(socket.SHUT_RDWR)]
    with pytest.raises(Unavailable):
        await target.send(SOME[:5])
    await target.send(SOME[:5])
    await target.close()
    assert set(keys_of(receiver)) == {each.key for each in SOME[:5]}


async def test_nobody_there_is_no_delivery(receiver):
    target = target_of(receiver)
    receiver.shutdown()
    receiver.server_close()
    with pytest.raises(Unavailable):
        await target.send(SOME[:1])
    await target.close()


async def test_one_document_that_is_refused_does_not_hold_up_the_others(otlp):
    target = target_of(otlp)
    otlp.faults = [(400, {}), (400, {}), (200, {}), (400, {})]
    refused = await target.send(SOME[:3])  # all, then 1 alone, then 2 and 3: 2, 3
    await target.close()
    assert len(refused) == 1 and refused[0].record in SOME[:3]


async def test_a_document_that_is_sent_again_is_stored_once(elastic):
    target = target_of(elastic)
    for _ in range(3):
        assert await target.send(SOME[:100]) == []
    await target.close()
    assert len(elastic.documents) == 100


async def test_a_bulk_answer_is_read_item_by_item(elastic):
    target = target_of(elastic)
    elastic.refused = {SOME[3].key}
    elastic.full = {SOME[5].key}
    with pytest.raises(Unavailable, match="i-1:b-1:6"):
        await target.send(SOME[:10])
    refused = await target.send(SOME[:10])
    await target.close()
    assert [each.record for each in refused] == [SOME[3]]
    assert elastic.documents.keys() == {each.key for each in SOME[:10]} - {SOME[3].key}


@pytest.mark.parametrize(
    "answer", [{}, {"items": []}, {"items": [{"create": {"_id": "another", "status": 201}}]}]
)
async def test_a_bulk_answer_that_leaves_a_document_out_is_no_delivery(elastic, answer):
    target = target_of(elastic)
    elastic.faults = [(200, answer)]
    with pytest.raises(Unavailable):
        await target.send(SOME[:1])
    await target.close()


async def test_a_partial_success_is_told_and_not_sent_again(otlp):
    target = target_of(otlp)
    otlp.rejects = 2
    refused = await target.send(SOME[:5])
    await target.close()
    assert len(refused) == 5 and refused[0].why.startswith("2 of 5")
    assert otlp.requests == 1


async def test_datadog_gets_what_is_old_under_the_time_of_sending(datadog):
    target = Datadog(datadog.url, "s3cret", None, clock=lambda: NOW_US)
    old = make_records(["a"], ts=NOW_US - 19 * 3600 * 1_000_000)
    assert await target.send([*old, *make_records(["b"])]) == []
    await target.close()
    assert datadog.wrong == []
    assert ["timestamp" in entry for entry in datadog.entries] == [False, True]
    assert datadog.entries[0]["occurred"] == old[0].body["@timestamp"]


async def test_datadog_gets_no_more_at_once_than_it_takes(datadog):
    target = target_of(datadog)
    long = make_records(["😀" * 8000] * 120)
    assert await target.send(long) == []
    await target.close()
    assert datadog.wrong == [] and len(datadog.entries) == 120
    assert datadog.requests > 2


def assert_inert(text: str) -> None:
    assert not set(text) & BIDI_OR_CONTROL, text
    assert not text.lstrip().startswith(("=", "+", "-", "@")), text


def strings_of(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [each for item in value.values() for each in strings_of(item)]
    if isinstance(value, list):
        return [each for item in value for each in strings_of(item)]
    return [value] if isinstance(value, str) else []


def test_a_hostile_name_is_inert_in_the_document_itself():
    names = [*HOSTILE, "dir/=cmd|' /C calc'!A0", "+1", "-1", "@SUM(1)", "\u2066x\u2069"]
    records = make_records(names, exe="\x1b]0;x\x07=1+1")
    records.append(make_alert("=1+1\n\x1b[2J", "user:\u202e=alice"))
    for record in records:
        check_ecs(record.body)
        for text in strings_of(record.body):
            assert_inert(text)
    assert len({r.body["file"]["path"] for r in records[:-1]}) == len(names)


async def test_a_hostile_name_is_inert_on_its_way_to_every_receiver(receiver):
    target = target_of(receiver)
    assert await target.send(make_records(HOSTILE)) == []
    await target.close()
    assert receiver.wrong == []
    assert len(keys_of(receiver)) == len(HOSTILE)


async def test_lines_are_on_disk_and_a_renamed_file_is_begun_anew(tmp_path):
    path = tmp_path / "audit.ndjson"
    target = Lines(str(path))
    await target.send(make_records(HOSTILE))
    path.rename(tmp_path / "old")
    await target.send(SOME[:3])
    first, second = (tmp_path / "old").read_text(), path.read_text()
    assert first.isascii() and all(c.isprintable() or c == "\n" for c in first)
    assert [json.loads(line)["event"]["sequence"] for line in first.splitlines()] == [
        *range(1, len(HOSTILE) + 1)
    ]
    assert len(second.splitlines()) == 3
    assert path.stat().st_mode & 0o777 == 0o640


async def test_lines_through_a_planted_link_or_into_no_folder_are_refused(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for path in (tmp_path / "link", tmp_path / "none" / "audit.ndjson"):
        with pytest.raises(Unavailable):
            await Lines(str(path)).send(SOME[:1])
    assert not (tmp_path / "elsewhere").exists()


async def test_rsyslog_understands_every_message_over_tls_and_a_restart_loses_none(tmp_path):
    [port] = find_free_ports(1)
    records = [*make_records(HOSTILE), *SOME[:1000], make_alert()]
    with running_rsyslog(tmp_path, port) as receiver:
        target = Syslog("127.0.0.1", port, str(receiver.certificate))
        await target.send(records[:500])
        assert len(receiver.messages(500)) == 500
        receiver.stop()
        with pytest.raises(Unavailable):
            await target.send(records[500:])
        receiver.start()
        await target.send(records[500:])
        found = receiver.messages(len(records))
    assert len(found) == len(records)
    for record, message in zip(records, found, strict=True):
        document = json.loads(message["text"].lstrip("\ufeff"))
        assert document == record.body
        assert message["app"] == "nightingale"
        assert message["action"] == record.body["event"]["action"]
        assert message["time"] == record.body["@timestamp"]
        assert message["host"] == ("hub" if record.key == "finding:7" else "i-1")
        assert f'id="{record.key}"' in message["sd"]
        assert message["pri"] == ("108" if record.key == "finding:7" else "109")


async def test_a_syslog_receiver_with_another_certificate_gets_nothing(tmp_path):
    [port] = find_free_ports(1)
    (tmp_path / "other").mkdir()
    other, _ = make_certificate(tmp_path / "other")
    with running_rsyslog(tmp_path, port) as receiver:
        for trusted in (str(other), None):
            with pytest.raises(Unavailable):
                await Syslog("127.0.0.1", port, trusted).send(SOME[:1])
        assert receiver.messages(0) == []


async def test_a_syslog_receiver_that_reads_nothing_and_dies_is_no_delivery(tmp_path):
    certificate, key = make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def accept_and_die() -> None:
            plain, _ = listening.accept()
            secure = context.wrap_socket(plain, server_side=True)
            secure.recv(100)  # the rest stays unread, so the kernel resets the connection
            secure.close()

        thread = threading.Thread(target=accept_and_die)
        thread.start()
        listening.settimeout(10)
        thread.join(0.1)
        port = listening.getsockname()[1]
        target = Syslog("127.0.0.1", port, str(certificate))
        with pytest.raises(Unavailable):
            await target.send(SOME)
        thread.join(10)


def test_a_syslog_header_holds_nothing_but_its_words():
    record = make_records(['a"b]c\\d'])[0]
    message = syslog.to_message(record)
    header, _, rest = message.partition(" [")
    assert header.split(" ")[:2] == ["<109>1", record.body["@timestamp"]]
    assert len(header.split(" ")) == 6
    assert 'path="/dicom/a\\"b\\]c\\\\d"' in rest
    assert syslog.to_word("a b\n\x1bé", 255) == "a_b___" and syslog.to_word("", 9) == "-"
