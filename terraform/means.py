"""What a run in a cloud is given: a template, its state's address and ticket, and a provider.

The ticket is made when every earlier run of the workspace is known to be over, and withdraws
theirs: so a lock that a killed run left is dropped by its owner's death.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nightingale_hub.clock import now_us
from nightingale_hub.database import Database
from nightingale_hub.errors import Unavailable
from nightingale_hub.row_lease import this_machine
from nightingale_hub.settings import NightingaleHub
from nightingale_hub.terraform.backend import USER
from nightingale_hub.terraform.keeping import Keeping, ensure_keeper, find_keeper
from nightingale_hub.terraform.states import Ticket, issue_ticket
from nightingale_hub.terraform.template import Template

log = logging.getLogger("nightingale")
# Spans a restart of the keeper: 30 tries, 1 to 4 s apart.
RETRIES = {"TF_HTTP_RETRY_MAX": "30", "TF_HTTP_RETRY_WAIT_MIN": "1", "TF_HTTP_RETRY_WAIT_MAX": "4"}


@dataclass(frozen=True)
class Means:
    """The means of one workspace."""

    settings: NightingaleHub
    db: Database
    template: Template
    path: str  # of its state
    credentials: Mapping[str, str] = field(repr=False)  # the cloud's, as environment

    async def provide(self, run: Path) -> dict[str, str]:
        """Return the environment of the run about to start in *run*; earlier ones must be over.

        Raises `Unavailable` when there is no state backend. Without a broker it runs plainly.
        """
        keeper = await asyncio.to_thread(ensure_keeper, self.settings)
        ticket = await asyncio.to_thread(
            self.db.transact,
            lambda conn: issue_ticket(conn, self.path, this_machine(), now_us()),
        )
        environment = {
            **self.credentials,
            **_address(keeper, ticket),
            "TF_CLI_CONFIG_FILE": str(self.template.cli_config),
        }
        if self.settings.provider_broker:
            attached = await asyncio.to_thread(self._attach, keeper, run)
            if attached:
                environment["TF_REATTACH_PROVIDERS"] = json.dumps(attached)
        return environment

    async def watch(self) -> None:
        """See that the keeper lives while a run goes on: Terraform asks its port until it does."""
        if find_keeper(self.settings) is None:
            with contextlib.suppress(Unavailable):  # asked again soon
                await asyncio.to_thread(ensure_keeper, self.settings)

    def _attach(self, keeper: Keeping, run: Path) -> dict[str, Any]:
        attached = {}
        for provider in self.template.list_providers():
            try:
                attached[provider.source] = keeper.open_endpoint(
                    provider.path, self.credentials, run
                )
            except Unavailable as error:
                log.warning("%s runs without the broker: %s", provider.source, error)
        return attached


def _address(keeper: Keeping, ticket: Ticket) -> dict[str, str]:
    url = f"{keeper.url}/state/{ticket.path}"
    return {
        "TF_HTTP_ADDRESS": url,
        "TF_HTTP_LOCK_ADDRESS": url,
        "TF_HTTP_UNLOCK_ADDRESS": url,
        "TF_HTTP_USERNAME": USER,
        "TF_HTTP_PASSWORD": ticket.secret,
        **RETRIES,
    }
