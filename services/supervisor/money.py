"""Billing, asked to hold the money for a launch before anything is made of it.

Idempotent: asked again for the same instance, the answer is the same hold.
"""

import os
from dataclasses import asdict
from typing import Any

import httpx

from nightingale_hub.errors import BadInput, NoOffer, NotFound, OverBudget, Unavailable
from nightingale_hub.offers import Offer
from nightingale_hub.settings import NightingaleHub

ANSWER_WITHIN_S = 10.0
# Asked again, billing would say the same.
REFUSALS = (BadInput.code, NoOffer.code, NotFound.code)


class Money:
    """Billing's holds, as this service may ask for them."""

    def __init__(self, url: str, token: str) -> None:
        """Prepare to ask billing at *url* (`…/api/`) with this service's *token*."""
        # trust_env would send the token through a proxy that the environment names.
        self._client = httpx.AsyncClient(
            base_url=url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=ANSWER_WITHIN_S,
            trust_env=False,
        )

    @classmethod
    def from_settings(cls, settings: NightingaleHub) -> "Money | None":
        """Return the billing of the hub that started this service; None where it has none."""
        if "billing" not in settings.service_ports:
            return None  # `configure` gives each hub all services
        url = f"{settings.service_url('billing')}api/"
        return cls(url, os.environ["JUPYTERHUB_API_TOKEN"])

    async def hold(self, instance_id: str) -> None:
        """Have the money for an instance held.

        Raises `OverBudget` where there is not enough, `NoOffer` where it cannot be charged for,
        as without a price in the payer's currency, `Unavailable` while billing cannot say.
        """
        await self._hold({"instance_id": instance_id})

    async def hold_resize(self, instance_id: str, offer: Offer) -> None:
        """Have the money held that an instance will need as *offer*; raises as `hold`."""
        wanted = {
            **asdict(offer.size),
            "instance_type": offer.instance_type,
            "nano_usd_per_hour": offer.nano_usd_per_hour,
        }
        await self._hold({"instance_id": instance_id, **wanted})

    async def _hold(self, body: dict[str, Any]) -> None:
        try:
            reply = await self._client.post("holds", json=body)
            answer = reply.json()
        except (httpx.HTTPError, ValueError) as error:
            raise Unavailable("billing does not answer") from error
        if reply.is_success:
            return
        said = answer.get("error") if isinstance(answer, dict) else None
        told = said if isinstance(said, dict) else {}
        if told.get("code") == OverBudget.code:
            raise OverBudget(str(told.get("message")))
        if told.get("code") in REFUSALS:
            raise NoOffer(f"billing cannot charge for it: {told.get('message')}")
        raise Unavailable(f"billing cannot say ({reply.status_code}): {told.get('message', '')}")

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()
