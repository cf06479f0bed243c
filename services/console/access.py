"""Who read this file, what did this person read, what did this run read, and what left.

A person asks about themself; who answers for a dataset, and an admin where nobody does, about
anyone who read it. What one may not see does not exist.
"""

import json
import re
from typing import Any
from urllib.parse import urlencode

from nightingale_hub.datasets import may_report
from nightingale_hub.errors import BadInput, NotFound, Unavailable
from nightingale_hub.instances import find
from nightingale_hub.services.console.api import Api
from nightingale_hub.services.console.page import Page

MOST_CHARS = 4096
PAGE_ROWS = 100
WHO = ("dataset", "path")
WHAT = ("owner", "instance", "pid", "dataset", "project", "after_dataset", "after_path")


class Access(Page):
    """A page with filters."""

    def take(self, names: tuple[str, ...]) -> dict[str, str]:
        """Return the filters of the URL that are set; raises `BadInput` for a huge one."""
        given = {name: self.get_query_argument(name, "").strip() for name in names}
        for name, text in given.items():
            if len(text) > MOST_CHARS:
                raise BadInput(f"{name} is too long to search for")
        return {name: text for name, text in given.items() if text}

    def may_see(self, dataset: str) -> bool:
        """Tell whether the reader may see who read *dataset*."""
        owners = self.context.settings.data_owners
        return may_report(owners, dataset, self.person.name, self.person.is_admin)


class Readers(Access):
    """Who read this file."""

    async def get(self) -> None:
        """Show who read `?dataset=&path=`; raises `NotFound` for a dataset of somebody else."""
        given = self.take(WHO)
        readers, why = None, ""
        if given:
            if given.keys() != set(WHO):
                raise BadInput("Name the dataset and the path of the file.")
            if not self.may_see(given["dataset"]):
                raise NotFound("No such dataset is yours to look after.")
            try:
                readers = (await self.parts.get("audit", "readers", **given))["readers"]
            except Unavailable as error:
                why = str(error)
        asked = {name: given.get(name, "") for name in WHO}
        self.show("readers.html", asked=asked, readers=readers, why=why)


class Files(Access):
    """What a person or a run read, and what left for their browser."""

    async def get(self) -> None:
        """Show the files of `?owner=&instance=&pid=&dataset=&project=`, by name."""
        given = self.take(WHAT)
        chosen = {name: text for name, text in given.items() if not name.startswith("after_")}
        owner = await self.find_owner(chosen)
        asked = {name: text for name, text in given.items() if name != "owner"} | owner
        files, left, following, why = None, None, None, ""
        try:
            found = await self.parts.get("audit", "files", limit=PAGE_ROWS, **asked)
            files, following = found["files"], found["next"]
            if "project" not in chosen:
                of_whom = {name: asked[name] for name in ("owner", "instance") if name in asked}
                left = await self.parts.get("audit", "downloads", limit=20, **of_whom)
        except Unavailable as error:
            why = str(error)
        after = following and {"after_dataset": following[0], "after_path": following[1]}
        self.show(
            "files.html",
            asked={name: chosen.get(name, "") for name in WHAT[:5]},
            files=files,
            left=left,
            why=why,
            run=urlencode([(n, chosen[n]) for n in ("instance", "pid") if n in chosen]),
            next_query=after and urlencode({**chosen, **after}),
        )

    async def find_owner(self, chosen: dict[str, str]) -> dict[str, str]:
        """Return the filter by owner: oneself, unless the reader may ask about others.

        Raises `NotFound` for somebody else's reads, `BadInput` for a pid without an instance.
        """
        if "pid" in chosen and (not chosen["pid"].isdigit() or "instance" not in chosen):
            raise BadInput("A process is a number, of an instance that is named too.")
        name = chosen.get("owner", "")
        is_own = name == self.person.name or not (name or "project" in chosen)
        if is_own and "instance" in chosen:
            wanted = chosen["instance"]
            row = await self.context.read(lambda conn: find(conn, wanted))
            is_own = row is None or row.owner == self.person.name
            name = "" if row is None else row.owner
        if is_own:
            return {"owner": self.person.name}
        looks_after = "dataset" in chosen and self.may_see(chosen["dataset"])
        if not (self.person.is_admin or looks_after):
            raise NotFound("No such reads are yours to see.")
        return {"owner": name} if name else {}


class ManifestFile(Access):
    """What a run read, signed, as a file."""

    async def get(self) -> None:
        """Reply the manifest of `?instance=&pid=`; raises `NotFound` for another's."""
        given = self.take(("instance", "pid"))
        wanted = given.pop("instance", "")
        row = await self.context.read(lambda conn: find(conn, wanted))
        if row is None or not (row.owner == self.person.name or self.person.is_admin):
            raise NotFound("No such instance is yours.")
        if not given.get("pid", "0").isdigit():
            raise BadInput("A process is a number.")
        manifest = await self.parts.get("audit", f"manifests/{row.id}", **given)
        name = re.sub(r"[^A-Za-z0-9._-]", "_", f"manifest-{row.id}.json")
        self.set_header("Content-Type", "application/json")
        self.set_header("Content-Disposition", f'attachment; filename="{name}"')
        self.finish(json.dumps(manifest))


class ReadersApi(Api):
    """Who read a file, for who answers for its dataset."""

    async def get(self) -> None:
        """Reply audit's readers of `?dataset=&path=`; raises `NotFound` for another's dataset."""
        dataset, path = self.get_query_argument("dataset"), self.get_query_argument("path")
        owners = self.context.settings.data_owners
        if not may_report(owners, dataset, self.person.name, self.person.is_admin):
            raise NotFound(f"no dataset {dataset[:80]!r} is yours to look after")
        self.reply(await self.parts.get("audit", "readers", dataset=dataset, path=path))


class DownloadsApi(Api):
    """What left for the owner's browser."""

    async def get(self) -> None:
        """Reply what Jupyter tells and the kernel counted, of the owner, by `?instance=`."""
        asked: dict[str, Any] = {"instance": self.get_query_argument("instance", "") or None}
        self.reply(await self.parts.get("audit", "downloads", owner=self.person.name, **asked))
