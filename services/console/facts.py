"""What Prometheus is told of notices."""

from sqlalchemy import Connection, func, select

from nightingale_hub.metrics import Fact, Rows
from nightingale_hub.tables.notices import notice_delivery


def _of_state(conn: Connection, state: str) -> Rows:
    return conn.execute(
        select(func.count()).select_from(notice_delivery).where(notice_delivery.c.state == state)
    ).all()


FACTS = (
    Fact("notices_waiting", "Notices to be sent.", (), lambda conn: _of_state(conn, "waiting")),
    Fact(
        "notice_failures_total",
        "Notices that were given up.",
        (),
        lambda conn: _of_state(conn, "failed"),
    ),
)
