"""The catalogue: what there is, its terms, what one may have, and what its owners decide."""

import re
from typing import Any

from sqlalchemy import Connection

from nightingale_hub.agreements import (
    Access,
    accept,
    ask_access,
    decide,
    get_request,
    list_access,
    list_requests,
)
from nightingale_hub.auth import parse_int
from nightingale_hub.clock import US_PER_S, day_start_us, now_us
from nightingale_hub.datasets import list_granted
from nightingale_hub.errors import BadInput, NotFound, Unavailable
from nightingale_hub.manifest import find_manifest, parse_sizes, unpack_lines
from nightingale_hub.notices import Kind, add_notice
from nightingale_hub.services.console.api import Api
from nightingale_hub.services.console.caller import Caller
from nightingale_hub.services.console.page import Page

MAX_NOTE = 1000
LISTED = 100_000
DAY_US = 86_400 * US_PER_S


class Listing(Api):
    """The files of a dataset by its manifest: what a loader goes by."""

    async def get(self) -> None:
        """Reply `{"measured_us", "sha256", "files": [[path, bytes], …], "next": number or null}`.

        `?dataset=&from=` with `next` of the page before. A path is written as in the log. Raises
        `NotFound` for a dataset that is not open to the person, `Unavailable` until it is measured.
        """
        name, start = self.get_query_argument("dataset", ""), parse_int(self, "from", 0) or 0
        owner = self.person.name

        def read(conn: Connection) -> Any:
            if name not in (row.name for row in list_granted(conn, owner)):
                raise NotFound(f"no dataset {name[:60]!r} is open to you; see nightingale data")
            return find_manifest(conn, name)

        found = await self.context.read(read)
        if found is None:
            raise Unavailable(f"the files of {name} are not counted yet; try again in a minute")
        files = list(parse_sizes(unpack_lines(found.content)).items())
        end = start + LISTED
        self.reply(
            {
                "measured_us": found.measured_us,
                "sha256": found.sha256,
                "files": files[start:end],
                "next": end if end < len(files) else None,
            }
        )


class Datasets(Page):
    """Every dataset with its terms, and for the owners of the data what waits for them."""

    async def get(self) -> None:
        """Show it."""
        owner, at_us = self.person.name, now_us()

        def read(conn: Connection) -> tuple[Any, Any]:
            found = list_access(conn, owner, at_us)
            names = [each.dataset.name for each in found]
            mine = [name for name in names if self.may_decide(name)]
            return found, list_requests(conn, mine)

        found, requests = await self.context.read(read)
        self.show("datasets.html", found=found, requests=requests, at_us=at_us)

    async def post(self) -> None:
        """Accept terms, ask for access, or decide; leads back to the page.

        Raises `BadInput`, `Conflict` or `NotFound`, and changes nothing.
        """
        does, owner, at_us = self.get_body_argument("do", ""), self.person.name, now_us()
        name = self.get_body_argument("dataset", "")
        if does == "accept":
            if self.get_body_argument("agreed", "") != "yes":
                raise BadInput("Tick that you have read the terms and accept them.")
            version = _parse_number(self.get_body_argument("version", ""))
            await self.context.write(lambda conn: accept(conn, name, owner, version, at_us))
        elif does == "ask":
            reason = self.get_body_argument("reason", "")
            owners = self.context.settings.data_owners.get(name, [])
            text = f"{owner} asks for {name}: {reason.strip()}\nDecide on the hub's Data page."

            def ask(conn: Connection) -> None:
                ask_access(conn, name, owner, reason, at_us)
                for each in owners:
                    key = f"asked:{name}:{owner}:{each}:{at_us}"
                    add_notice(conn, each, Kind.RUN, f"{owner} asks for {name}", text, key, at_us)

            await self.context.write(ask)
        elif does in ("grant", "refuse"):
            await self._decide(does == "grant", at_us)
        else:
            raise BadInput("The form says nothing that can be done.")
        self.redirect(f"{self.context.prefix}datasets", status=303)

    def may_decide(self, name: str) -> bool:
        """Tell whether the reader owns the data: named in `data_owners`, else an admin."""
        return may_decide(self.context.settings.data_owners, name, self.person)

    async def _decide(self, is_granted: bool, at_us: int) -> None:
        request_id = _parse_number(self.get_body_argument("request", ""))
        until = self.get_body_argument("until", "").strip()
        # A day is counted whole: access ends when it ends, in UTC.
        until_us = _parse_day(until) + DAY_US if until else None
        note = self.get_body_argument("note", "")
        if len(note) > MAX_NOTE:
            raise BadInput(f"The note is longer than {MAX_NOTE} characters.")

        def write(conn: Connection) -> None:
            if not self.may_decide(get_request(conn, request_id).dataset):
                raise NotFound("There is no such request.")
            decide(conn, request_id, self.person.name, is_granted, until_us, note, at_us)

        await self.context.write(write)


class DatasetsApi(Api):
    """The same for programs, to read."""

    async def get(self) -> None:
        """Reply every dataset with its terms, and how the token's person stands to it."""
        owner, at_us = self.person.name, now_us()
        found = await self.context.read(lambda conn: list_access(conn, owner, at_us))
        self.reply({"datasets": [_describe(each) for each in found]})


def may_decide(owners: dict[str, list[str]], name: str, person: Caller) -> bool:
    """Tell whether *person* owns dataset *name*."""
    return person.name in owners[name] if name in owners else person.is_admin


def _describe(one: Access) -> dict[str, Any]:
    names = ("name", "title", "description", "terms", "terms_version")
    return {
        **{name: getattr(one.dataset, name) for name in names},
        "state": one.state.value,
        "until_us": one.until_us,
        "refused": one.request.note if one.request and one.request.verdict == "refused" else None,
    }


def _parse_number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise BadInput("The form names no number that it should.")
    return int(text)


def _parse_day(text: str) -> int:
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        raise BadInput(f"{text[:40]!r} is no day such as 2027-03-31")
    try:
        return day_start_us(text)
    except ValueError as error:
        raise BadInput(f"{text[:40]!r} is no day of the calendar") from error
