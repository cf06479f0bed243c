"""Notices: told once, by the ways that a person chose, signed, never to an address inside."""

import asyncio
import email
import hashlib
import hmac
import ipaddress
import json
import socket
import socketserver
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from apprise.plugins.slack import NotifySlack
from sqlalchemy import select

from nightingale_hub.errors import BadInput, Conflict, NotFound, Unavailable
from nightingale_hub.lease import take_lease
from nightingale_hub.notices import Kind, add_notice, list_notices
from nightingale_hub.service import Context
from nightingale_hub.services.console import webhook
from nightingale_hub.services.console.channels import (
    MAX_CHANNELS,
    add_channel,
    list_channels,
    parse_channel,
    remove_channel,
)
from nightingale_hub.services.console.deliver import ATTEMPTS, PER_HOUR, Deliverer
from nightingale_hub.settings import NightingaleHub
from nightingale_hub.tables.notices import notice_delivery

S = 1_000_000
ALL = [each.value for each in Kind]
LOOPBACK = [ipaddress.ip_network("127.0.0.0/8")]
HOSTILE = 'scan\n<img src=x onerror=alert(1)>\x1b[31m\u202e=cmd|" /C"!A0\r\nBcc: eve@example.org'


class Receiver:
    """A web server that keeps what it gets and answers *status*."""

    def __init__(self):
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        self.status = 200
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append((self.path, dict(self.headers), body))
                self.send_response(receiver.status)
                self.send_header("Location", "http://127.0.0.1:1/")
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook?of=ada"


class MailServer(socketserver.ThreadingTCPServer):
    """Takes mail as a mail server does, and keeps it."""

    daemon_threads = True

    def __init__(self):
        self.got: list[tuple[list[str], str]] = []
        server = self

        class Session(socketserver.StreamRequestHandler):
            def handle(self):
                self.wfile.write(b"220 here\r\n")
                to: list[str] = []
                while line := self.rfile.readline():
                    verb = line[:4].upper()
                    if verb == b"DATA":
                        self.wfile.write(b"354 go on\r\n")
                        text = b""
                        while not text.endswith(b"\r\n.\r\n"):
                            text += self.rfile.readline()
                        server.got.append((to, text.decode()))
                    elif verb == b"RCPT":
                        to.append(line.decode().strip())
                    self.wfile.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n")
                    if verb == b"QUIT":
                        return

        super().__init__(("127.0.0.1", 0), Session)


@pytest.fixture
def receiver():
    made = Receiver()
    yield from serve(made.server, made)


@pytest.fixture
def mail_server():
    made = MailServer()
    yield from serve(made, made)


def serve(server, made):
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


class Post:
    """The console's deliverer over a database, on a clock of the test's own."""

    def __init__(self, database, folder, **settings):
        self.settings = NightingaleHub(
            state_dir=str(folder), db_url=database.url, webhook_networks=["127.0.0.0/8"], **settings
        )
        self.db = database
        self.now_us = 1_000 * S
        epoch = database.transact(lambda conn: take_lease(conn, "console", "test", 1))
        context = Context("console", self.settings, database, epoch)
        self.deliverer = Deliverer(context, lambda: self.now_us)

    def channel(self, way, address, kinds=None, owner="ada"):
        asked = parse_channel(way, address, ALL if kinds is None else kinds)
        key = self.settings.secret_key()
        self.db.transact(lambda conn: add_channel(conn, key, owner, asked, 1))
        return asked

    def tell(self, key, kind=Kind.RUN, subject="A run ended", body="All well.", owner="ada"):
        return self.db.transact(
            lambda conn: add_notice(conn, owner, kind, subject, body, key, self.now_us)
        )

    def deliver(self):
        asyncio.run(self.deliverer.step())

    def states(self):
        with self.db.read() as conn:
            rows = conn.execute(select(notice_delivery).order_by(notice_delivery.c.notice_id))
            return [(row.state, row.attempts, row.outcome) for row in rows]


@pytest.fixture
def post(database, tmp_path):
    return Post(database, tmp_path / "state")


def test_a_notice_is_told_once(post, receiver):
    post.channel("webhook", receiver.url)
    assert post.tell("crash:i-1")
    assert not post.tell("crash:i-1", subject="again")
    for _ in range(3):
        post.deliver()
    [(path, _, body)] = receiver.got
    assert path == "/hook?of=ada"
    assert json.loads(body)["subject"] == "A run ended"
    assert post.states() == [("sent", 1, "")]


def test_a_receiver_can_check_who_sent_a_webhook_and_when(post, receiver):
    key = post.channel("webhook", receiver.url).target["key"]
    post.tell("one")
    post.deliver()
    [(_, headers, body)] = receiver.got
    at, _, signature = headers[webhook.SIGNATURE].partition(",v1=")
    assert at == "t=1000"
    expected = hmac.new(bytes.fromhex(key), b"1000." + body, hashlib.sha256).hexdigest()
    assert hmac.compare_digest(signature, expected)


def test_only_what_was_chosen_and_only_ones_own_arrives(post, receiver):
    post.channel("webhook", receiver.url, ["budget"])
    post.tell("a", Kind.RUN)
    post.tell("b", Kind.BUDGET, subject="80 %")
    post.tell("c", Kind.BUDGET, subject="bob's", owner="bob")
    post.deliver()
    post.deliver()
    assert [json.loads(body)["subject"] for _, _, body in receiver.got] == ["80 %"]
    with post.db.read() as conn:
        assert [row.subject for row in list_notices(conn, "bob")] == ["bob's"]


def test_what_is_not_taken_is_tried_again_and_given_up_in_the_end(post, receiver):
    receiver.status = 503
    post.channel("webhook", receiver.url)
    post.tell("one")
    post.deliver()
    [(state, attempts, outcome)] = post.states()
    assert (state, attempts) == ("waiting", 1) and "answered 503" in outcome
    post.deliver()
    assert len(receiver.got) == 1  # not before its time
    for _ in range(ATTEMPTS):
        post.now_us += 3600 * S
        post.deliver()
    [(state, attempts, outcome)] = post.states()
    assert (state, attempts) == ("failed", ATTEMPTS) and "given up" in outcome
    assert len(receiver.got) == ATTEMPTS


def test_a_flood_is_held_but_for_security(post, receiver):
    post.channel("webhook", receiver.url)
    for number in range(PER_HOUR + 5):
        post.tell(f"run:{number}")
    for number in range(PER_HOUR + 5):
        post.tell(f"alarm:{number}", Kind.SECURITY)
    for _ in range(10):
        post.deliver()
    states = [state for state, _, _ in post.states()]
    assert states.count("held") == 5
    kinds = [json.loads(body)["kind"] for _, _, body in receiver.got]
    assert (kinds.count("run"), kinds.count("security")) == (PER_HOUR, PER_HOUR + 5)
    post.now_us += 3601 * S
    post.tell("later")
    post.deliver()
    assert json.loads(receiver.got[-1][2])["kind"] == "run"


def test_mail_reaches_its_address_alone_whatever_it_says(database, tmp_path, mail_server):
    secret = tmp_path / "mail"
    port = mail_server.server_address[1]
    secret.write_text(f"mailto://127.0.0.1:{port}?from=hub@example.org&mode=insecure\n")
    post = Post(database, tmp_path / "state", mail_url_file=str(secret))
    post.channel("mail", "ada@example.org")
    post.tell("one", subject=HOSTILE, body=HOSTILE)
    post.deliver()
    assert post.states() == [("sent", 1, "")]
    [(to, text)] = mail_server.got
    assert [each.lower() for each in to] == ["rcpt to:<ada@example.org>"]
    assert "\x1b" not in text and "text/html" not in text
    assert email.message_from_string(text)["Bcc"] is None


def test_mail_without_a_mail_server_is_told_to_its_owner(post):
    post.channel("mail", "ada@example.org")
    post.tell("one")
    post.deliver()
    [(state, _, outcome)] = post.states()
    assert state == "failed" and "mail_url_file" in outcome


def test_slack_gets_the_text_at_its_incoming_webhook(post, receiver, monkeypatch):
    # Slack itself is the cloud here: stood in for at its address.
    monkeypatch.setattr(NotifySlack, "webhook_url", receiver.url.split("/hook")[0])
    tokens = "T0123ABCD/B0123ABCD/abcdefABCDEF0123456789ab"
    post.channel("slack", f"https://hooks.slack.com/services/{tokens}")
    post.tell("one", subject="Out of memory")
    post.deliver()
    [(path, _, body)] = receiver.got
    assert path == f"/{tokens}"
    assert "Out of memory" in json.dumps(json.loads(body))


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/",
        "https://localhost/",
        "https://10.0.0.7/",
        "https://169.254.169.254/latest/meta-data/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[fd00:ec2::254]/",
        "https://0.0.0.0/",
        "https://2130706433/",
        "https://100.64.0.1/",
        "https://[64:ff9b::7f00:1]/",
        "https://[2002:7f00:1::]/",
    ],
)
def test_a_webhook_reaches_nothing_that_is_not_public(url):
    with pytest.raises((BadInput, Unavailable), match=r"no public address|has no address"):
        webhook.send(url, "00", b"{}", 1, [])


def test_a_webhook_goes_by_http_inside_allowed_networks_only():
    with pytest.raises(BadInput, match="must be asked by https"):
        webhook.send("http://1.1.1.1/", "00", b"{}", 1, LOOPBACK)


def test_a_name_is_asked_once_and_what_was_judged_is_what_is_reached(receiver, monkeypatch):
    answers = iter([receiver.server.server_address[0], "10.0.0.1"])
    port = receiver.server.server_port

    def resolve(host, asked_port, **_):
        return [(2, 1, 6, "", (next(answers), asked_port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    real = socket.create_connection

    def connect(address, timeout):
        assert address == ("127.0.0.1", port)
        monkeypatch.undo()
        return real(address, timeout)

    monkeypatch.setattr(socket, "create_connection", connect)
    webhook.send(f"http://rebound.example:{port}/", "00", b"{}", 1, LOOPBACK)
    assert receiver.got[0][1]["Host"] == f"rebound.example:{port}"


def test_a_redirect_is_not_followed(receiver):
    receiver.status = 302
    with pytest.raises(Unavailable, match="answered 302"):
        webhook.send(receiver.url, "00", b"{}", 1, LOOPBACK)
    assert len(receiver.got) == 1


@pytest.mark.parametrize(
    ("way", "address", "kinds"),
    [
        ("pigeon", "ada@example.org", ALL),
        ("mail", "ada", ALL),
        ("mail", "ada@example.org?to=eve@example.org", ALL),
        ("mail", "ada@example.org,eve@example.org", ALL),
        ("mail", "ada@example.org&smtp=evil.example", ALL),
        ("mail", "ada@example.org\nBcc: eve@example.org", ALL),
        ("slack", "https://evil.example/services/T0123ABCD/B0123ABCD/abcdefABCDEF0123456789", ALL),
        ("slack", "https://hooks.slack.com/services/T0/B0/x/../..", ALL),
        ("webhook", "ftp://example.org/", ALL),
        ("webhook", "file:///etc/passwd", ALL),
        ("webhook", "https://ada:secret@example.org/", ALL),
        ("webhook", "https://example.org:99999/", ALL),
        ("webhook", "https://exämple.org/", ALL),
        ("webhook", "https://example.org/\r\nX: y", ALL),
        ("webhook", "https://example.org/" + "x" * 2000, ALL),
        ("webhook", "https://example.org/", []),
        ("webhook", "https://example.org/", ["everything"]),
    ],
)
def test_a_way_that_is_none_is_refused(way, address, kinds):
    with pytest.raises(BadInput):
        parse_channel(way, address, kinds)


def test_the_database_holds_no_target_in_clear(post, receiver):
    asked = post.channel("webhook", receiver.url)
    with post.db.read() as conn:
        [row] = list_channels(conn, "ada")
    stored = repr(tuple(row))
    assert "hook?of" not in stored and asked.target["key"] not in stored
    assert row.label.endswith("/…")


def test_ways_are_bounded_and_anothers_cannot_be_removed(post):
    for number in range(MAX_CHANNELS):
        post.channel("webhook", f"https://example.org/{number}")
    with pytest.raises(Conflict, match="remove one first"):
        post.channel("webhook", "https://example.org/more")
    with post.db.read() as conn:
        first = list_channels(conn, "ada")[0].id
    with pytest.raises(NotFound):
        post.db.transact(lambda conn: remove_channel(conn, "eve", first))
    post.tell("one")
    asyncio.run(post.deliverer.step())
    post.db.transact(lambda conn: remove_channel(conn, "ada", first))
    assert len(post.states()) == MAX_CHANNELS - 1  # what waited for it went with it
