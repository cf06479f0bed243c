"""Who read what, on pages and by the API: one's own, and others' for who answers for the data."""

import pytest

HOSTILE = "<img src=x onerror=alert(1)>\u202e\x1b[31m"
TOTALS = {"opens": 1, "reads": 2, "bytes": 3, "first_us": 1, "last_us": 1_795_000_000_000_000}
FILES = {"files": [{"dataset": "ct", "path": HOSTILE, **TOTALS}], "next": ["ct", "a b"]}
READERS = {"readers": [{"owner": HOSTILE, **TOTALS}]}
LEFT = {
    "told": {"file": {"requests": 1, "bytes": 12_345}},
    "counted_bytes": 54_321,
    "downloads": [{"kind": "file", "name": HOSTILE, "requests": 1, "bytes": 12_345, "last_us": 1}],
}


@pytest.fixture
def audit(console):
    part = console.parts["audit"]
    part.answers |= {"files": FILES, "readers": READERS, "downloads": LEFT}
    return part


def list_asked(audit, path):
    return [query for _, asked, query, _ in audit.asked if asked == path]


def test_a_person_sees_what_they_read_and_what_left_and_nobody_elses(console, audit):
    with console.browser("ada") as browser:
        page = browser.get("files?dataset=ct")
        assert page.status_code == 200
        assert (
            "<img src=x" not in page.text and "\u202e" not in page.text and "\x1b" not in page.text
        )
        assert "12,345 bytes in 1 answers" in page.text and "54,321 bytes" in page.text
        assert "after_dataset=ct&amp;after_path=a+b" in page.text
        bobs = console.launch("bob")
        for query in ("owner=bob", f"instance={bobs}", "project=heart", "owner=bob&dataset=ct"):
            assert browser.get(f"files?{query}").status_code == 404, query
        assert browser.get(f"manifest?instance={bobs}").status_code == 404
        assert browser.get("files?pid=7").status_code == 400
        assert browser.get("readers?dataset=ct&path=a").status_code == 404
    assert {query["owner"] for query in list_asked(audit, "files")} == {"ada"}
    assert list_asked(audit, "readers") == []


def test_an_admin_asks_about_anyone_where_nobody_answers_for_the_data(console, audit):
    with console.browser("root", admin=True) as browser:
        page = browser.get("readers?dataset=ct&path=CT/*")
        assert page.status_code == 200 and "<img src=x" not in page.text
        assert browser.get("readers?dataset=ct").status_code == 400
        assert browser.get("files?owner=bob").status_code == 200
        assert browser.get("files?project=heart").status_code == 200
    assert list_asked(audit, "readers") == [{"dataset": "ct", "path": "CT/*"}]
    by_person, by_project = list_asked(audit, "files")
    assert by_person["owner"] == "bob" and "owner" not in by_project
    assert by_project["project"] == "heart"


def test_a_run_is_shown_with_its_signed_manifest(console, audit):
    mine = console.launch("ada")
    audit.answers |= {f"manifests/{mine}": {"manifest": {}, "note": "signed"}}
    with console.browser("ada") as browser:
        page = browser.get(f"files?instance={mine}&pid=7")
        assert f"manifest?instance={mine}&amp;pid=7" in page.text
        file = browser.get(f"manifest?instance={mine}&pid=7")
        assert file.json() == {"manifest": {}, "note": "signed"}
        name = f'attachment; filename="manifest-{mine}.json"'
        assert file.headers["Content-Disposition"] == name
    assert list_asked(audit, f"manifests/{mine}") == [{"pid": "7"}]
