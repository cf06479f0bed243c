"""What a person was told, by which ways they want to be told, and what a program tells them."""

import secrets
from typing import Any

from sqlalchemy import Connection, Row, select

from nightingale_hub.auth import parse_int
from nightingale_hub.clock import now_us
from nightingale_hub.errors import BadInput
from nightingale_hub.notices import (
    MAX_BODY_CHARS,
    MAX_SUBJECT_CHARS,
    Kind,
    add_notice,
    list_notices,
)
from nightingale_hub.services.console.api import Api
from nightingale_hub.services.console.channels import (
    WAYS,
    add_channel,
    list_channels,
    parse_channel,
    remove_channel,
)
from nightingale_hub.services.console.page import Page
from nightingale_hub.tables.notices import notice_delivery

SHOWN = 50


class Notices(Page):
    """The latest notices with what came of each, and the ways."""

    async def get(self) -> None:
        """Show the page."""
        await self.show_page()

    async def post(self) -> None:
        """Add a way, remove one, or tell by each; leads back to the page.

        Raises `BadInput`, `Conflict` or `NotFound`, and changes nothing.
        """
        does = self.get_body_argument("do", "")
        owner, at_us, key = self.person.name, now_us(), self.context.settings.secret_key()
        if does == "add":
            asked = parse_channel(
                self.get_body_argument("way", ""),
                self.get_body_argument("address", ""),
                self.get_body_arguments("kind"),
            )
            new_id = await self.context.write(
                lambda conn: add_channel(conn, key, owner, asked, at_us)
            )
            if "key" in asked.target:
                await self.show_page(new_id, asked.target["key"])
                return
        elif does == "remove":
            channel_id = _parse_id(self.get_body_argument("channel", ""))
            await self.context.write(lambda conn: remove_channel(conn, owner, channel_id))
        elif does == "try":
            text = "This is a trial, asked for on the hub's Notices page."
            told = f"trial:{secrets.token_hex(8)}"
            await self.context.write(
                lambda conn: add_notice(conn, owner, Kind.RUN, "A trial", text, told, at_us)
            )
        else:
            raise BadInput("The form says nothing that can be done.")
        self.redirect(f"{self.context.prefix}notices", status=303)

    async def show_page(self, new_id: int | None = None, new_key: str = "") -> None:
        """Show the page; *new_key* is a new webhook's, shown this once."""
        owner = self.person.name

        def read(conn: Connection) -> tuple[Any, Any, Any]:
            notices = list_notices(conn, owner, limit=SHOWN)
            return notices, _list_deliveries(conn, notices), list_channels(conn, owner)

        notices, deliveries, channels = await self.context.read(read)
        self.show(
            "notices.html",
            notices=notices,
            deliveries=deliveries,
            channels=channels,
            labels={each.id: each.label for each in channels},
            ways=WAYS if self.context.settings.mail_url_file else WAYS[1:],
            kinds=[each.value for each in Kind],
            new_id=new_id,
            new_key=new_key,
        )


class NoticesApi(Api):
    """What Lab and the command line ask and tell."""

    async def get(self) -> None:
        """Reply the newest notices after `?after=` (an id)."""
        after = parse_int(self, "after", 0) or 0
        owner = self.person.name
        rows = await self.context.read(lambda conn: list_notices(conn, owner, after, SHOWN))
        names = ("id", "kind", "subject", "body", "at_us")
        self.reply({"notices": [{name: getattr(row, name) for name in names} for row in rows]})

    async def post(self) -> None:
        """Tell the token's own person `{"subject", "body"}`; a program of theirs asks for it.

        Raises `BadInput`.
        """
        body = self.json_body()
        subject, text = body.get("subject"), body.get("body", "")
        if not isinstance(subject, str) or not subject.strip() or len(subject) > MAX_SUBJECT_CHARS:
            raise BadInput(f"subject must be a text of 1 to {MAX_SUBJECT_CHARS} characters")
        if not isinstance(text, str) or len(text) > MAX_BODY_CHARS:
            raise BadInput(f"body must be a text of at most {MAX_BODY_CHARS} characters")
        kind = body.get("kind", "run")
        if kind not in (Kind.RUN, Kind.ERROR):
            raise BadInput("kind must be run or error; the others are the hub's own")
        owner, at_us, told = self.person.name, now_us(), f"told:{secrets.token_hex(12)}"
        await self.context.write(
            lambda conn: add_notice(conn, owner, Kind(kind), subject, text, told, at_us)
        )
        channels = await self.context.read(lambda conn: list_channels(conn, owner))
        self.reply({"told": True, "ways": [each.way for each in channels if kind in each.kinds]})


def _list_deliveries(conn: Connection, notices: list[Row[Any]]) -> dict[int, list[Row[Any]]]:
    found: dict[int, list[Row[Any]]] = {row.id: [] for row in notices}
    query = select(notice_delivery).where(notice_delivery.c.notice_id.in_(list(found)))
    for row in conn.execute(query.order_by(notice_delivery.c.channel_id)):
        found[row.notice_id].append(row)
    return found


def _parse_id(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise BadInput("The form names no way.")
    return int(text)
