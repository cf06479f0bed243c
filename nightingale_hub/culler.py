"""jupyterhub-idle-culler with our word on who is idle: `python -m nightingale_hub.culler`.

The culler asks the hub for its servers and stops those that it is told to; what is told is decided
from the record. Without a database nothing is stopped.
"""

import asyncio
import logging
import sys
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

from jupyterhub_idle_culler import IdleCuller
from sqlalchemy.exc import SQLAlchemyError
from traitlets.config import Config

from nightingale_hub.activity import judge
from nightingale_hub.clock import US_PER_S, now_us
from nightingale_hub.database import Database
from nightingale_hub.errors import Unavailable
from nightingale_hub.idle import Policy, Verdict
from nightingale_hub.service import die_with_parent
from nightingale_hub.settings import NightingaleHub

log = logging.getLogger("nightingale")


class Arbiter:
    """Says of each server whether it is to be stopped now."""

    def __init__(
        self, database: Database, settings: NightingaleHub, clock: Callable[[], int] = now_us
    ) -> None:
        """Decide from *database* by the policy of *settings*."""
        self._database = database
        self._policy = make_policy(settings)
        self._clock = clock

    async def __call__(
        self, *, inactive: timedelta | None, inactive_limit: float, server: dict[str, Any]
    ) -> bool:
        """Tell whether *server* is to be stopped; warns its owner before. Never raises."""
        owner, _, name = str(server["full_name"]).partition("/")
        at_us = self._clock()
        pages_us = at_us - int((inactive or timedelta(0)).total_seconds() * US_PER_S)
        work = partial(
            judge,
            owner=owner,
            server_name=name,
            pages_us=pages_us,
            policy=self._policy,
            at_us=at_us,
        )
        try:
            decision = await asyncio.to_thread(self._database.transact, work)
        except (SQLAlchemyError, Unavailable) as error:
            log.warning("nobody can tell whether %s is idle: %s", server["full_name"], error)
            return False
        return decision.verdict == Verdict.STOP


def make_policy(settings: NightingaleHub) -> Policy:
    """Return the policy that *settings* say."""
    return Policy(
        timeout_us=int(settings.idle_timeout_s * US_PER_S),
        ceiling_us=int(settings.idle_ceiling_s * US_PER_S),
        warn_us=int(min(settings.idle_warn_s, settings.idle_timeout_s / 2) * US_PER_S),
    )


def main() -> int:
    """Run the culler until it is ended."""
    die_with_parent()
    settings = NightingaleHub.from_environment()
    config = Config()
    arbiter = Arbiter(Database(settings.db_url), settings)

    async def arbitrate(**asked: Any) -> bool:
        return await arbiter(**asked)

    # A function: a configuration is copied deeply, which no database connection survives.
    config.IdleCuller.cull_arbiter_hook = arbitrate
    config.IdleCuller.timeout = max(1, int(settings.idle_timeout_s))
    # Often enough that each warning has its place.
    policy = make_policy(settings)
    config.IdleCuller.cull_every = max(1, min(60, policy.warn_us // (6 * US_PER_S)))
    config.IdleCuller.config_file = ""
    culler = IdleCuller(config=config)
    culler.initialize([])
    culler.start()
    return 0


if __name__ == "__main__":
    sys.exit(main())
