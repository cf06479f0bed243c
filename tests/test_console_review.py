"""The review page shows what audit says waits for the reader, inert, and signs in their name."""

import base64

from tests.test_console import xsrf_of

WAITING = {
    "finding": 7, "rule": "H1", "severity": "critical", "subject": "user:<img src=x onerror=1>",
    "dataset": "\u202ect", "reason": "<script>alert(1)</script>", "at_us": 1_795_000_000_000_000,
    "incident": 3, "rung": "suspend",
}  # fmt: skip


def test_a_finding_is_shown_inert_and_signed_off_in_the_readers_name(console):
    audit = console.parts["audit"]
    audit.answers |= {"review": {"findings": [WAITING]}, "review/7": {}}
    with console.browser("dora") as browser:
        page = browser.get("review")
        assert page.status_code == 200
        assert "<script>alert" not in page.text and "<img src=x" not in page.text
        assert "\u202e" not in page.text and "Allow a bypass" not in page.text
        form = {"_xsrf": xsrf_of(page), "finding": "7", "verdict": "breach", "note": "n" * 12}
        assert browser.post("review", data=form | {"_xsrf": ""}).status_code == 403
        assert browser.post("review", data=form | {"finding": "7/../8"}).status_code == 400
        assert browser.post("review", data=form).status_code == 200
        assert browser.post("bypass", data=form | {"hours": "1"}).status_code == 404
    posts = [body for method, path, _, body in audit.asked if method == "POST"]
    assert posts == [
        {"reviewer": "dora", "admin": False, "verdict": "breach", "note": "n" * 12},
    ]


def test_an_admin_allows_a_bypass_in_their_own_name(console):
    audit = console.parts["audit"]
    audit.answers |= {"review": {"findings": []}, "bypasses": {"bypass": 1}}
    with console.browser("root", admin=True) as browser:
        page = browser.get("review")
        form = {
            "_xsrf": xsrf_of(page), "owner": "alice", "rules": "R1 R3", "hours": "8",
            "reason": "computes features once",
        }  # fmt: skip
        assert browser.post("bypass", data=form | {"hours": "soon"}).status_code == 400
        assert browser.post("bypass", data=form).status_code == 200
    [body] = [body for method, _, _, body in audit.asked if method == "POST"]
    assert body == {
        "reviewer": "root", "owner": "alice", "rules": ["R1", "R3"], "hours": 8,
        "reason": "computes features once",
    }  # fmt: skip


def test_an_access_record_comes_as_a_file_of_a_plain_name(console):
    audit = console.parts["audit"]
    audit.answers |= {"report": {"csv": "user\r\n", "pdf": base64.b64encode(b"%PDF").decode()}}
    with console.browser("dora") as browser:
        for kind, content in (("csv", b"user\r\n"), ("pdf", b"%PDF")):
            answer = browser.get(f'access.{kind}?dataset=c"t&month=2026-11')
            assert answer.content == content
            name = f'attachment; filename="access-c_t-2026-11.{kind}"'
            assert answer.headers["Content-Disposition"] == name
        assert browser.get("access.pdf?dataset=ct&month=never").status_code == 400
    asked = [query for _, path, query, _ in audit.asked if path == "report"]
    assert all(query["reviewer"] == "dora" and query["admin"] == "0" for query in asked)
