"""Who worked on a project, and when: what they read in that time was the project's."""

from sqlalchemy import Connection, select

from nightingale_hub.services.audit.search import Membership
from nightingale_hub.tables.credit import member


def list_memberships(conn: Connection, project: str) -> tuple[Membership, ...]:
    """Return who was when on *project*, or on `customer/project`: nobody, for one there is not."""
    customer, _, name = project.rpartition("/")
    query = select(member).where(member.c.project == name, member.c.project != "")
    if customer:
        query = query.where(member.c.customer == customer)
    rows = conn.execute(query.order_by(member.c.owner, member.c.from_us)).all()
    return tuple(Membership(row.owner, row.from_us, row.until_us) for row in rows)
