"""The verbs of the desk: what each is called, whether it writes, and what it says for itself."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nightingale_hub.errors import NotFound
from nightingale_hub.log_leaf import append_leaf, hash_text
from nightingale_hub.services.billing.desk import audit, budgets, customers, documents, prices
from nightingale_hub.services.billing.desk.visit import Visit

Answer = Callable[[Visit, Mapping[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class Verb:
    """One thing to ask for."""

    answer: Answer
    writes: bool = False


VERBS: dict[str, Verb] = {
    "customer.list": Verb(customers.list_customers),
    "customer.add": Verb(customers.add_customer, writes=True),
    "customer.plan": Verb(customers.set_plan, writes=True),
    "member.list": Verb(customers.list_members),
    "member.add": Verb(customers.add_member, writes=True),
    "member.remove": Verb(customers.remove_member, writes=True),
    "grant.list": Verb(customers.show_grants),
    "grant.add": Verb(customers.add_grant, writes=True),
    "budget.list": Verb(budgets.list_budgets),
    "budget.add": Verb(budgets.add_budget, writes=True),
    "budget.change": Verb(budgets.change_budget, writes=True),
    "forecast.show": Verb(budgets.show_forecast),
    "plan.list": Verb(prices.list_plans),
    "plan.add": Verb(prices.add_plan, writes=True),
    "price.list": Verb(prices.list_prices),
    "price.add": Verb(prices.add_prices, writes=True),
    "price.refresh": Verb(prices.refresh_prices, writes=True),
    "invoice.list": Verb(documents.list_documents),
    "invoice.show": Verb(documents.show_document),
    "invoice.pdf": Verb(documents.show_pdf),
    "line.explain": Verb(audit.show_line),
    "ledger.check": Verb(audit.check_ledger),
    "ledger.export": Verb(audit.show_journal),
    "ledger.rebuild": Verb(audit.rebuild_ledger, writes=True),
    "reconcile.list": Verb(audit.show_days),
    "reconcile.take": Verb(audit.take_bill, writes=True),
    "month.show": Verb(documents.show_month),
    "month.pdf": Verb(documents.show_month_pdf),
    "invoice.draft": Verb(documents.draft_invoice),
    "invoice.finalise": Verb(documents.finalise_invoice, writes=True),
    "invoice.credit": Verb(documents.credit_invoice, writes=True),
    "invoice.pay": Verb(documents.pay_invoice, writes=True),
}


def get_verb(name: str) -> Verb:
    """Return the verb *name* (`grant.add`); raises `NotFound`."""
    if name not in VERBS:
        raise NotFound(f"billing has no {name[:40]!r}; there is: {', '.join(VERBS)}")
    return VERBS[name]


def serve(visit: Visit, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the answer to *name* with the fields of *body*; raises what it raises.

    What may change anything has a leaf with who asked for what, beside those of what it made.
    """
    verb = get_verb(name)
    answer = verb.answer(visit, body)
    if verb.writes:
        asked = hash_text(json.dumps(body, sort_keys=True, default=str))
        said = {"verb": name, "by": visit.actor, "asked_sha256": asked}
        append_leaf(visit.conn, "desk", said, visit.at_us)
    return answer
