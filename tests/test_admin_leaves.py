"""What anyone asks of the hub that changes something stands in the log, with who asked."""

import json

from sqlalchemy import select

from nightingale_hub.datasets import Dataset, ensure_dataset, grant, withdraw
from nightingale_hub.quarantine import begin_quarantine, end_quarantine
from nightingale_hub.requests import Kind, Request, ask
from nightingale_hub.services.billing.desk.verbs import VERBS, serve
from nightingale_hub.services.billing.desk.visit import Visit
from nightingale_hub.tables.log import log_leaf
from tests.audit import AT_US, add_instance


def list_leaves(database, kind):
    with database.read() as conn:
        query = select(log_leaf.c.payload).where(log_leaf.c.kind == kind)
        return [json.loads(text) for text in conn.execute(query.order_by(log_leaf.c.id)).scalars()]


def test_a_request_and_a_quarantine_are_in_the_log_once(database):
    sender = add_instance(database)
    wish = Request(sender.instance_id, Kind.QUARANTINE, "dora", "copied all", idem_key="k")
    with database.write() as conn:
        ask(conn, wish, AT_US)
        ask(conn, wish, AT_US)
        for _ in range(2):
            begin_quarantine(conn, "alice", "dora", "copied all", AT_US)
        for _ in range(2):
            end_quarantine(conn, "alice", "root", AT_US)
    [said] = list_leaves(database, "request")
    assert (said["kind"], said["by"], said["reason"]) == ("quarantine", "dora", "copied all")
    assert list_leaves(database, "quarantine") == [
        {"owner": "alice", "by": "dora", "reason": "copied all"}
    ]
    assert list_leaves(database, "release") == [{"owner": "alice", "by": "root"}]


def test_a_dataset_its_grants_and_their_end_are_in_the_log_once(database):
    described = Dataset("ct", "CT", "", "terms", "/data/ct")
    with database.write() as conn:
        for _ in range(2):
            ensure_dataset(conn, described)
            grant(conn, "ct", "alice", AT_US)
        ensure_dataset(conn, Dataset("ct", "CT", "", "other terms", "/data/ct"))
        for _ in range(2):
            withdraw(conn, "ct", "alice")
    first, second = list_leaves(database, "dataset")
    assert first["path"] == "/data/ct" and first["terms_sha256"] != second["terms_sha256"]
    said = {"dataset": "ct", "grantee": "alice"}
    assert list_leaves(database, "dataset_grant") == [{**said, "until_us": None}]
    assert list_leaves(database, "dataset_withdrawn") == [said]


def test_whatever_is_asked_of_billing_that_may_change_something_is_in_the_log(database):
    body = {"id": "uni", "name": "University", "kind": "private", "currency": "USD"}
    with database.write() as conn:
        visit = Visit(conn, "root", True, AT_US, "us", 30)
        serve(visit, "customer.add", body)
        serve(visit, "customer.list", {})
    [said] = list_leaves(database, "desk")
    assert (said["verb"], said["by"]) == ("customer.add", "root")
    words = ("add", "remove", "change", "plan", "refresh", "finalise", "credit", "pay", "take")
    changing = {name for name in VERBS if name.partition(".")[2] in words}
    assert changing <= {name for name, verb in VERBS.items() if verb.writes}
