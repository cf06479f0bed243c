"""What Prometheus is told of instances, Terraform's runs and what nobody owns."""

from sqlalchemy import Connection, func, select

from nightingale_hub.instances import ENDED, SERVES, State
from nightingale_hub.metrics import Fact, Rows
from nightingale_hub.tables.instances import instance, progress, terraform_run
from nightingale_hub.tables.orphans import orphan
from nightingale_hub.tables.supervision import request

UNSETTLED = tuple(
    state for state in State if state not in ENDED and (state not in SERVES or state == "resizing")
)


def _instances(conn: Connection) -> Rows:
    return conn.execute(
        select(instance.c.cloud, instance.c.actual, func.count())
        .where(instance.c.actual.not_in(ENDED))
        .group_by(instance.c.cloud, instance.c.actual)
    ).all()


def _unsettled_since(conn: Connection) -> Rows:
    entered = (
        select(func.max(progress.c.at_us))
        .where(progress.c.instance_id == instance.c.id, progress.c.edge != "")
        .scalar_subquery()
    )
    since = select(
        instance.c.actual, func.coalesce(entered, instance.c.created_us).label("us")
    ).where(instance.c.actual.in_(UNSETTLED))
    each = since.subquery()
    oldest = select(each.c.actual, func.min(each.c.us)).group_by(each.c.actual)
    return [(state, us / 1e6) for state, us in conn.execute(oldest)]


def _runs(conn: Connection) -> Rows:
    return conn.execute(
        select(terraform_run.c.action, func.count())
        .where(terraform_run.c.ended_us.is_(None))
        .group_by(terraform_run.c.action)
    ).all()


def _failed_runs(conn: Connection) -> Rows:
    return conn.execute(
        select(terraform_run.c.action, func.count())
        .where(terraform_run.c.exit_status != 0)
        .group_by(terraform_run.c.action)
    ).all()


def _orphans(conn: Connection) -> Rows:
    return conn.execute(
        select(func.count()).select_from(orphan).where(orphan.c.removed_us.is_(None))
    ).all()


def _requests(conn: Connection) -> Rows:
    return conn.execute(
        select(func.count()).select_from(request).where(request.c.done_us.is_(None))
    ).all()


FACTS = (
    Fact("instances", "Instances that are not over.", ("cloud", "state"), _instances),
    Fact(
        "instance_unsettled_since_timestamp_seconds",
        "Since when the instance that is longest in a state on the way is in it.",
        ("state",),
        _unsettled_since,
    ),
    Fact("terraform_runs", "Runs of Terraform that go on.", ("action",), _runs),
    Fact("terraform_failures_total", "Runs of Terraform that failed.", ("action",), _failed_runs),
    Fact("orphans", "What runs in a cloud under our tag and belongs to nobody.", (), _orphans),
    Fact("requests_waiting", "What was asked of instances and is not done.", (), _requests),
)
