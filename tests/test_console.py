"""The console: who sees what, that it shows no invented figure, and that text stays text."""

import csv
import html
import io
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from pyarrow import parquet

from nightingale_hub.agreements import accept
from nightingale_hub.clock import now_us
from nightingale_hub.datasets import Dataset, ensure_dataset, grant
from nightingale_hub.instances import get, list_progress
from nightingale_hub.resizing import Phase, close
from nightingale_hub.services.console.caller import STOP, Caller
from nightingale_hub.services.console.page import POLICY
from nightingale_hub.services.console.routes import API, PAGES
from nightingale_hub.tables.supervision import resize
from tests.console import ACCESS, READ, Console, stop

EVIL = "<img src=x onerror=alert(1)>\u202e'\"\n{{7*7}}.dcm"
PRIVATE = (
    "",
    "figures",
    "statement",
    "statement.csv",
    "reads",
    "reads.csv",
    "reads.parquet",
    "stop",
    "resize",
    "resize/live",
    "datasets",
    "notices",
    "admin",
)


@pytest.fixture
def alice(console) -> Iterator[httpx.Client]:
    with console.browser("alice") as client:
        yield client


@pytest.fixture
def admin(console) -> Iterator[httpx.Client]:
    with console.browser("root", admin=True) as client:
        yield client


def ask(
    console: Console, path: str, token: str, method: str = "GET", **query: str
) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"}
    url = f"{console.url}api/{path}"
    return httpx.request(method, url, headers=headers, params=query, trust_env=False, timeout=20)


def read_event(**changes: object) -> dict[str, object]:
    return {
        "stream_id": "i-1:b1",
        "seq": 1,
        "at_us": 1_795_470_000_000_000,
        "owner": "alice",
        "action": "read",
        "dataset": "dicom",
        "path": "CT/a.dcm",
        "offset": 131072,
        "length": 4096,
        "duration_us": 210,
        "file_id": 3,
        "uid": 1000,
        "pid": 77,
        "executable": "/usr/bin/python3",
        "errno": 0,
        **changes,
    }


def xsrf_of(page: httpx.Response) -> str:
    found = re.search(r'name="_xsrf" value="([^"]+)"', page.text)
    assert found is not None
    return found[1]


# The API: whose token sees and stops what.


def test_a_server_token_reads_its_own_server_alone(console):
    own = console.launch("alice", server_name="gpu")
    console.launch("alice")
    token = console.server_token("alice", "gpu")
    assert ask(console, "status", token).json()["instance"]["id"] == own
    for path in ("status", "cost", "sizes", "reads", "statement"):
        assert ask(console, path, token).status_code == 200
        other = ask(console, path, token, server="")
        assert (other.status_code, other.json()["error"]["code"]) == (404, "not_found")


def test_anothers_instance_does_not_exist_for_a_token(console):
    console.launch("bob", server_name="secret")
    console.launch("alice")
    token = console.server_token("alice")
    for server in ("secret", "bob/secret", "../bob/secret"):
        assert ask(console, "status", token, server=server).status_code == 404
        assert ask(console, "stop", token, "POST", server=server).status_code == 404
    assert console.parts["supervisor"].asked == []


def test_the_parts_are_asked_about_the_tokens_owner_whatever_the_url_says(console):
    console.launch("alice")
    token = console.server_token("alice")
    for path in ("status", "cost", "reads", "statement"):
        ask(console, path, token, owner="bob")
    asked = [each for part in console.parts.values() for each in part.asked]
    owners = {query["owner"] for _, _, query, _ in asked if "owner" in query}
    assert owners == {"alice"}
    assert set(console.parts["billing"].tokens[-2:]) == {"Bearer console-token"}


@pytest.mark.parametrize(
    ("scopes", "kind"),
    [
        ([f"{READ}!user=alice"], "user"),
        ([ACCESS], "user"),
        (["access:services!service=billing", f"{READ}!user=alice"], "user"),
        ([ACCESS, f"{READ}!user=bob"], "user"),
        ([ACCESS, READ], "service"),
    ],
)
def test_a_token_without_the_scope_is_refused(console, scopes, kind):
    console.launch("alice")
    reply = ask(console, "status", console.token("alice", scopes, kind))
    assert (reply.status_code, reply.json()["error"]["code"]) == (403, "not_allowed")


def test_a_token_that_may_only_read_stops_nothing(console):
    console.launch("alice")
    token = console.token("alice", [ACCESS, f"{READ}!server=alice/"])
    assert ask(console, "stop", token, "POST").status_code == 403
    assert console.parts["supervisor"].asked == []


def test_a_token_that_ended_stops_nothing_a_moment_later(console):
    console.launch("alice")
    token = console.server_token("alice")
    assert ask(console, "status", token).status_code == 200
    del console.hub.models[token]
    assert ask(console, "status", token).status_code == 403
    assert ask(console, "stop", token, "POST").status_code == 403
    assert console.parts["supervisor"].asked == []


def test_the_api_takes_no_cookie_and_needs_a_token(console, alice):
    console.launch("alice")
    assert alice.get("api/status").status_code == 403
    assert alice.post("api/stop").status_code == 403
    assert alice.get("api/fly").json()["error"]["code"] == "not_found"


def test_a_stop_that_the_supervisor_cannot_take_is_no_stop(console):
    instance_id = console.launch("alice")
    console.parts["supervisor"].fault = "down"
    reply = ask(console, "stop", console.server_token("alice"), "POST")
    assert reply.status_code == 503
    assert "supervisor does not answer" in reply.json()["error"]["message"]
    with console.db.read() as conn:
        assert get(conn, instance_id).stop_accepted_us is None


def test_a_slow_part_is_waited_for_no_longer_than_five_seconds(console):
    console.launch("alice")
    console.parts["billing"].fault = "slow"
    console.parts["metering"].fault = "slow"
    reply = ask(console, "status", console.server_token("alice"))
    assert reply.elapsed.total_seconds() < 8
    assert reply.json()["missing"] == [
        "billing does not answer; try again in a moment",
        "metering does not answer; try again in a moment",
    ]


@pytest.mark.parametrize("value", ["-1", "x", "1e3", "99999999999999999999"])
def test_a_wrong_number_is_bad_input(console, value):
    reply = ask(console, "cost", console.server_token("alice"), since_us=value)
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "bad_input")


def test_a_cost_of_more_than_two_years_is_bad_input(console):
    reply = ask(console, "cost", console.server_token("alice"), since_us="0")
    assert reply.status_code == 400
    assert console.parts["billing"].asked == []


def test_scopes_of_one_server_say_nothing_about_a_server_whose_name_begins_alike():
    caller = Caller("al", False, frozenset({f"{STOP}!server=al/x", f"{READ}!user=al"}))
    assert caller.holds(STOP, "al", "x")
    assert not caller.holds(STOP, "al", "xy")
    assert not caller.holds(STOP, "al", "")
    assert not caller.holds(READ, "alice", "")


# The pages.


def test_home_shows_instances_cost_datasets_and_reads(console, alice):
    instance_id = console.launch("alice")
    console.charge(instance_id)
    with console.db.write() as conn:
        ensure_dataset(conn, Dataset("dicom", "CT images", "Scans", "Be kind", "/srv/hidden"))
        grant(conn, "dicom", "alice", 1)
        accept(conn, "dicom", "alice", 1, 1)
        ensure_dataset(conn, Dataset("other", "Not yours", "", "", "/srv/hidden"))
    console.parts["audit"].answers["reads"] = {"reads": [read_event()], "next": None}
    page = alice.get("")
    assert page.status_code == 200
    for text in (instance_id, "$0.001139", "$2.001139", "CT images", "Be kind", "CT/a.dcm"):
        assert text in page.text
    assert 'href="/user/alice/lab"' in page.text
    assert "Not yours" not in page.text
    assert "/srv/hidden" not in page.text


def test_home_shows_how_far_a_start_has_come(console, alice):
    console.launch("alice", state="booting")
    page = alice.get("figures")
    assert "Took launching_to_booting" in page.text
    assert 'class="state booting"' in page.text


@pytest.mark.parametrize("part", ["billing", "metering", "audit"])
def test_a_page_shows_what_there_is_and_names_what_is_missing(console, alice, part):
    instance_id = console.launch("alice")
    console.charge(instance_id)
    console.parts[part].fault = "down"
    page = alice.get("")
    assert page.status_code == 200
    assert instance_id in page.text
    assert f"{part} does not answer" in page.text
    assert ("$0.001139" in page.text) == (part != "billing")


def test_a_server_that_does_not_answer_is_shown_as_such(console, alice):
    instance_id = console.launch("alice")
    console.parts["metering"].answers["live"] = {
        "instances": [
            {"instance_id": instance_id, "healthy": False, "last_ok_us": 1_795_470_000_000_000}
        ]
    }
    assert "does not answer, last at 2026-11-23 21:40:00 UTC" in alice.get("").text


def test_a_statement_shows_each_line_its_total_and_the_months_beside_it(console, alice):
    console.parts["billing"].answers["statement"] = {
        "lines": [
            {
                "line_id": 1,
                "instance_id": "i-1",
                "server_name": "=cmd()",
                "size": "cpu S, gpu none, disk S",
                "start_us": 1_767_312_000_000_000,
                "end_us": 1_767_315_600_000_000,
                "seconds": 3600,
                "nano_per_hour": 41_000_000,
                "amount_micro": 41_000,
            }
        ],
        "currency": "USD",
        "total_micro": 41_000,
        "running_micro": 7,
        "pending": 1,
    }
    page = alice.get("statement", params={"month": "2026-01"})
    for text in ("$0.041", "$0.000007", "month=2025-12", "month=2026-02", "not proven yet"):
        assert text in page.text
    asked = console.parts["billing"].asked[-1]
    assert asked[1:3] == ("statement", {"owner": "alice", "month": "2026-01"})
    reply = alice.get("statement.csv", params={"month": "2026-01"})
    assert reply.headers["Content-Type"] == "text/csv; charset=utf-8"
    (row,) = csv.DictReader(io.StringIO(reply.text))
    assert (row["amount"], row["amount_micro"], row["seconds"]) == ("$0.041", "41000", "3600")
    assert row["server"] == "'=cmd()"


@pytest.mark.parametrize(
    "month", ["2026-13", "x", "2026", "2026-01-01", "0001-01", "9999-12", "'--"]
)
def test_a_month_that_is_none_is_bad_input(console, alice, month):
    page = alice.get("statement", params={"month": month})
    assert page.status_code == 400
    assert "month must be like 2026-11" in page.text


def test_reads_hand_every_filter_to_audit_and_lead_to_the_next_page(console, alice):
    console.parts["audit"].answers["reads"] = {"reads": [read_event()], "next": "9.1.i-1:b1"}
    filters = {"dataset": "dicom", "path": "CT/*", "instance": "i-1"}
    page = alice.get("reads", params=filters)
    asked = console.parts["audit"].asked[-1][2]
    assert asked == {"owner": "alice", "limit": "100", **filters}
    assert "131,072" in page.text
    following = re.search(r'href="([^"]+)" rel="next"', page.text)
    assert following is not None
    alice.get(page.url.join(html.unescape(following[1])))
    assert console.parts["audit"].asked[-1][2] == {**asked, "before": "9.1.i-1:b1"}


def test_the_csv_of_reads_holds_every_page_and_says_when_it_does_not(console, alice):
    def answer(query: dict[str, str], _: object) -> dict[str, object]:
        page = int(query.get("before", "0"))
        is_last = page == 2 and query.get("dataset") == "small"
        rows = [read_event(seq=page * 1000 + i) for i in range(int(query["limit"]))]
        return {"reads": rows, "next": None if is_last else str(page + 1)}

    console.parts["audit"].answers["reads"] = answer
    small = list(csv.DictReader(io.StringIO(alice.get("reads.csv?dataset=small").text)))
    assert len(small) == 3000
    assert small[0]["path"] == "CT/a.dcm"
    large = alice.get("reads.csv").text.splitlines()
    assert len(large) == 10_002
    assert "narrow the search" in large[-1]


def test_the_parquet_of_reads_holds_each_as_it_was_recorded_or_is_an_error(console, alice):
    event = read_event(path=EVIL)
    console.parts["audit"].answers["reads"] = {"reads": [event], "next": None}
    (row,) = parquet.read_table(io.BytesIO(alice.get("reads.parquet").content)).to_pylist()
    assert row == event
    console.parts["audit"].answers["reads"] = {"reads": [event] * 1000, "next": "1"}
    reply = alice.get("reads.parquet")
    assert (reply.status_code, "narrow the search" in reply.text) == (400, True)


def test_a_csv_is_complete_or_an_error(console, alice):
    console.parts["audit"].fault = "down"
    console.parts["billing"].fault = "down"
    for path in ("reads.csv", "statement.csv"):
        reply = alice.get(path)
        assert reply.status_code == 503
        assert "text/csv" not in reply.headers["Content-Type"]


def test_what_a_person_wrote_runs_nowhere(console, alice, admin):
    instance_id = console.launch("alice")
    console.charge(instance_id)
    event = read_event(path=EVIL, executable=EVIL, dataset=EVIL, action=EVIL)
    console.parts["audit"].answers["reads"] = {"reads": [event], "next": None}
    with console.db.write() as conn:
        ensure_dataset(conn, Dataset("dicom", EVIL, EVIL, EVIL, "/data"))
        grant(conn, "dicom", "*", 1)
        accept(conn, "dicom", "alice", 1, 1)
        stop(conn, instance_id, EVIL, now_us())
    for client in (alice, admin):
        for path in (
            "",
            "reads",
            "statement",
            f"stop?instance={instance_id}",
            "figures",
            "datasets",
        ):
            text = client.get(path, params={"path": EVIL} if path == "reads" else None).text
            assert "<img src=x" not in text
            assert "49.dcm" not in text
    page = alice.get("reads").text
    assert "\u202e" not in page
    assert r"&lt;img src=x onerror=alert(1)&gt;\u202e&#39;&#34;\n{{7*7}}.dcm" in page
    assert EVIL.partition("\n")[0] not in admin.get("admin").text


@pytest.mark.parametrize("start", ["=1+1", "+1", "-1", "@SUM(A1)", "  =1", "\t=1"])
def test_no_cell_of_a_csv_is_a_formula(console, alice, start):
    event = read_event(path=start, executable=start)
    console.parts["audit"].answers["reads"] = {"reads": [event], "next": None}
    (row,) = csv.DictReader(io.StringIO(alice.get("reads.csv").text))
    for cell in (row["path"], row["executable"]):
        assert not cell.lstrip().startswith(("=", "+", "-", "@", "\t"))


def test_every_answer_to_a_browser_carries_the_guards(console, alice):
    for path in (*PRIVATE, "nope", "static/console.css", "static/nope", "oauth_callback"):
        reply = alice.get(path)
        assert reply.headers["Content-Security-Policy"] == POLICY, path
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert "unsafe" not in reply.headers["Content-Security-Policy"]


def test_pages_hold_no_inline_script_or_style_and_ask_nobody_else(console, alice):
    console.charge(console.launch("alice"))
    for path in ("", "statement", "reads"):
        text = alice.get(path).text
        assert not re.search(r"<script(?![^>]+src=)|<style|\son\w+=|style=|javascript:", text)
        for url in re.findall(r'(?:src|href|action)="([^"]+)"', text):
            assert url.startswith(("/", "#", "data:,")) and not url.startswith("//"), url


def test_pages_are_never_kept_by_a_cache(console, alice):
    for path in PRIVATE:
        assert alice.get(path).headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", PRIVATE)
def test_a_stranger_is_sent_to_the_hubs_login_or_refused(console, path):
    reply = httpx.get(f"{console.url}{path}", trust_env=False)
    if path in ("figures", "resize/live"):
        assert reply.status_code == 403
    else:
        assert reply.status_code == 302
        assert reply.headers["Location"].startswith("/hub/api/oauth2/authorize?")


def test_a_login_that_ended_at_the_hub_ends_here(console, alice):
    assert alice.get("").status_code == 200
    del console.hub.models["oauth-alice"]
    reply = alice.get("", follow_redirects=False)
    assert reply.status_code == 302


def test_a_token_in_a_header_opens_no_page(console):
    headers = {"Authorization": f"Bearer {console.server_token('alice')}"}
    assert httpx.get(console.url, headers=headers, trust_env=False).status_code == 403


def test_a_hub_that_is_down_is_said_to_be(console, alice):
    console.hub.is_down = True
    page = alice.get("")
    assert page.status_code == 502
    assert "The hub does not answer" in page.text


def test_stop_asks_first_then_stops_and_leads_home(console, alice):
    instance_id = console.launch("alice")
    console.charge(instance_id)
    asked = alice.get("stop", params={"instance": instance_id})
    assert "$0.001139" in asked.text
    assert "what they hold in memory is lost" in asked.text
    assert console.parts["supervisor"].asked == []
    form = {"instance": instance_id, "_xsrf": xsrf_of(asked)}
    done = alice.post("stop", data=form, headers={"Sec-Fetch-Site": "same-origin"})
    assert (done.status_code, str(done.url)) == (200, console.url)
    assert 'class="state stopping"' in done.text
    assert "Stop accepted: alice asked for it" in done.text
    assert console.parts["supervisor"].asked[0][1] == f"instances/{instance_id}/stop"


@pytest.mark.parametrize("form", [{}, {"_xsrf": "wrong"}])
def test_a_stop_from_another_site_stops_nothing(console, alice, form):
    instance_id = console.launch("alice")
    alice.get("stop", params={"instance": instance_id})
    reply = alice.post("stop", data={"instance": instance_id, **form})
    assert reply.status_code == 403
    assert console.parts["supervisor"].asked == []


def test_anothers_instance_is_not_found_to_see_or_to_stop(console, alice):
    instance_id = console.launch("bob")
    own = console.launch("alice")
    form_page = alice.get("stop", params={"instance": own})
    seen = alice.get("stop", params={"instance": instance_id})
    never = alice.get("stop", params={"instance": "i-never"})
    assert seen.status_code == never.status_code == 404
    assert seen.text.replace(xsrf_body(seen), "") == never.text.replace(xsrf_body(never), "")
    form = {"instance": instance_id, "_xsrf": xsrf_of(form_page)}
    assert alice.post("stop", data=form).status_code == 404
    assert console.parts["supervisor"].asked == []
    assert instance_id not in alice.get("").text


def xsrf_body(page: httpx.Response) -> str:
    found = re.search(r'data-xsrf="([^"]+)"', page.text)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("path", ["admin", "admin/fleet"])
def test_admin_pages_do_not_exist_for_others(console, alice, path):
    console.launch("bob")
    page = alice.get(path)
    assert page.status_code == 404
    assert "bob" not in page.text
    assert f">{path}<" not in alice.get("").text


def test_an_admin_sees_everyone_and_stops_with_a_reason(console, admin):
    one = console.launch("alice")
    two = console.launch("bob", state="booting")
    console.charge(one)
    page = admin.get("admin")
    for text in (one, two, "alice", "bob", "$0.001139"):
        assert text in page.text
    asked = admin.get("stop", params={"instance": one})
    form = {"instance": one, "_xsrf": xsrf_of(asked)}
    assert admin.post("stop", data=form).status_code == 400
    assert console.parts["supervisor"].asked == []
    done = admin.post("stop", data={**form, "reason": "maintenance"})
    assert str(done.url) == f"{console.url}admin"
    with console.db.read() as conn:
        lines = [line.message for line in list_progress(conn, one)]
    assert "Stop accepted: admin root: maintenance" in lines


def test_an_admins_page_lists_the_newest_stopped_after_what_runs(console, admin):
    gone = console.launch("alice", state="stopped")
    runs = console.launch("bob")
    text = admin.get("admin").text
    assert text.index(runs) < text.index(gone)


def test_every_address_is_tried_by_these_tests_or_the_command_lines():
    tried = {*PRIVATE, "admin/fleet", "oauth_callback"}
    tried |= {f"api/{name}" for name in ("status", "cost", "statement", "sizes", "reads", "stop")}
    tried |= {"api/resize", "api/extend", "api/manifest", "api/files", "api/datasets"}
    tried |= {"api/listing"}  # in test_cli_tools.py
    # In test_console_access.py.
    tried |= {"files", "readers", "manifest", "api/readers", "api/downloads"}
    tried |= {"api/notices"}
    # In test_money_pages.py, test_money_api.py, test_launch_money.py and test_console_review.py.
    tried |= {"month", "month.csv", "month.pdf", "grants", "budgets", "invoices", "invoice.pdf"}
    tried |= {"prices", "review", "bypass", "access.(csv|pdf)", "reads.parquet", "reconciliation"}
    tried |= {"api/fleet/([a-z]+.[a-z]+)"}  # in test_fleet_desk.py
    tried |= {"api/money/([a-z]+.[a-z]+)", "api/quote", "api/compare", "api/openapi.json"}
    assert {path.replace("\\", "") for path, _ in (*PAGES, *API)} - tried == {"api(?:/.*)?"}


def test_every_address_is_in_the_docs():
    docs = (Path(__file__).parent.parent / "docs" / "console.md").read_text()
    for path, _ in PAGES:
        for plain in spell_out(path):
            assert f"| `/services/console/{plain}` |" in docs
    for path, handler in API[:-1]:
        for method in {"get", "post"} & vars(handler).keys():
            for plain in spell_out(path):
                assert f"| `{method.upper()} {plain}` |" in docs


def spell_out(path: str) -> list[str]:
    """Return the addresses that the pattern *path* stands for, as the docs write them."""
    plain = path.replace("\\", "").replace("([a-z]+.[a-z]+)", "<noun>.<verb>")
    return [plain.replace("(csv|pdf)", kind) for kind in ("csv", "pdf")][: 1 + ("(csv" in plain)]


def test_a_resize_page_says_what_is_going_on_and_leads_back_once_it_is_over(console, alice):
    assert "Nothing runs for this server" in alice.get("resize").text
    instance_id = console.launch("alice")
    assert "No resize was asked for" in alice.get("resize").text
    with console.db.write() as conn:
        size = {"instance_type": "x", "cpu": "M", "gpu": "none", "disk": "S"}
        written = conn.execute(
            resize.insert()
            .values(
                instance_id=instance_id,
                nano_usd_per_hour=82_000_000,
                actor="alice",
                phase="applying",
                asked_us=now_us(),
                **size,
            )
            .returning(resize.c.id)
        ).scalar_one()
    going = alice.get("resize/live").text
    assert "cpu M, gpu none, disk S" in going and "data-then" not in going
    with console.db.write() as conn:
        close(conn, written, Phase.TAKEN_BACK, now_us(), f"It keeps its size: {EVIL}")
    over = alice.get("resize/live").text
    assert 'data-then="/user/alice/lab"' in over
    assert "taken back: It keeps its size: &lt;img" in over


def test_what_is_left_to_spend_is_shown_with_a_word_when_it_is_little(console, alice):
    cost = console.parts["billing"].answers["cost"]
    cost["left"] = {"currency": "USD", "left_micro": 900_000, "limit_micro": 10_000_000, "of": "x"}
    page = alice.get("").text
    assert "Left of x" in page and "$0.90" in page and "nearly spent" in page
    del cost["left"]
    assert "Left of" not in alice.get("").text


def test_the_files_that_one_read_are_ones_own(console):
    audit = console.parts["audit"]
    audit.answers["files"] = {"files": [], "next": None}
    token = console.server_token("alice")
    assert ask(console, "files", token, dataset="dicom", owner="bob").json()["files"] == []
    assert audit.asked[-1][2] == {"owner": "alice", "limit": "1000", "dataset": "dicom"}


def test_a_servers_token_gets_the_manifest_of_its_own_server_alone(console):
    own = console.launch("alice", server_name="a")
    other = console.launch("alice", server_name="b")
    token = console.server_token("alice", "a")
    console.parts["audit"].answers["manifests/.*"] = {"manifest": {}}
    assert ask(console, "manifest", token, instance=own).status_code == 200
    refused = ask(console, "manifest", token, instance=other)
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "not_found")
    unknown = ask(console, "manifest", token, instance="i-none")
    assert refused.json()["error"] == unknown.json()["error"]
    person = console.token("alice", [ACCESS, f"{READ}!user=alice"])
    assert ask(console, "manifest", person, instance=other).status_code == 200
    everyone = console.token("bob", [ACCESS, READ])
    assert ask(console, "manifest", everyone, instance=other).status_code == 404
