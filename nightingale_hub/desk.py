"""The verbs of the desk: what may be asked about money and about the fleet, with which fields.

The command line, the console's API and its OpenAPI read these tables; `services.billing` answers
about money, `nightingale_hub.fleet` about the fleet. An amount is decimal text (`12.50`), a time a
UTC date or time, a field that is left out is decided by who answers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Field:
    """One field of a request."""

    text: str
    is_required: bool = False
    is_whole: bool = False  # a whole number; else text


@dataclass(frozen=True)
class Verb:
    """One thing to ask for."""

    text: str
    fields: Mapping[str, Field] = field(default_factory=dict)
    writes: bool = False
    admin: bool = False  # for the hub's admins alone


def _needs(text: str) -> Field:
    return Field(text, is_required=True)


CUSTOMER = Field("the customer, such as org/lab or user/alice; default: your own")
WHOSE = _needs("the customer, such as org/lab or user/alice")
USER = _needs("the hub user's name")
NUMBER = _needs("the document's number, such as INV-000042")
MONTH = Field("a month in UTC, such as 2026-11; default: this one")

VERBS: dict[str, Verb] = {
    "customer.list": Verb("list the customers that you may see"),
    "customer.add": Verb(
        "write a customer down",
        {
            "id": _needs("its id, such as org/lab"),
            "name": _needs("its name, as documents have it"),
            "kind": _needs("private (pays by use) or non_profit (on granted credit)"),
            "currency": Field("its currency; default: USD"),
            "plan": Field("its plan; default: standard"),
        },
        writes=True,
        admin=True,
    ),
    "customer.plan": Verb(
        "put a customer on a plan from now on",
        {"customer": WHOSE, "plan": _needs("the plan's name")},
        writes=True,
        admin=True,
    ),
    "member.list": Verb("list who is or was a member of a customer", {"customer": CUSTOMER}),
    "member.add": Verb(
        "make a hub user a member, whose launches the customer pays",
        {
            "customer": WHOSE,
            "user": USER,
            "project": Field("the project that the user works on; default: none"),
            "role": Field("manager or member; default: member"),
        },
        writes=True,
        admin=True,
    ),
    "member.remove": Verb(
        "end a membership", {"customer": WHOSE, "user": USER}, writes=True, admin=True
    ),
    "grant.list": Verb("list grants in burn order, with what is left", {"customer": CUSTOMER}),
    "grant.add": Verb(
        "give credit",
        {
            "kind": Field("allowance or provider (the cloud's own to us); default: allowance"),
            "customer": Field("whose allowance it is"),
            "source": _needs("who gives it"),
            "amount": _needs("how much, such as 5000"),
            "currency": Field("its currency; default: USD"),
            "start": Field("from when it may be used; default: now"),
            "end": _needs("until when it may be used"),
            "priority": Field("0 to 1000, smaller burns first; default: 100", is_whole=True),
            "cloud": Field("only for use on this cloud"),
            "region": Field("only for use in this region"),
            "project": Field("only for use by this project"),
            "user": Field("only for use by this user"),
        },
        writes=True,
        admin=True,
    ),
    "budget.list": Verb("list budgets: limit, spent, held, left, alerts", {"customer": CUSTOMER}),
    "budget.add": Verb(
        "limit what is spent in each month, or in a window",
        {
            "customer": CUSTOMER,
            "user": Field("only what this member spends"),
            "project": Field("only what this project spends"),
            "limit": _needs("the most that may be spent, such as 250"),
            "period": Field("month or window; default: month"),
            "start": Field("from when it holds; default: now"),
            "end": Field("until when it holds; a window needs one"),
            "on_end": Field("stop, or degrade to a small CPU size first; default: stop"),
        },
        writes=True,
    ),
    "budget.change": Verb(
        "change a budget's limit, or end it earlier",
        {"id": _needs("the budget's id"), "limit": Field("the new limit"), "end": Field("the end")},
        writes=True,
    ),
    "forecast.show": Verb("show this month's spend and what it will be", {"customer": CUSTOMER}),
    "plan.list": Verb("list every version of every plan"),
    "plan.add": Verb(
        "publish a version of a plan",
        {
            "name": _needs("the plan's name"),
            "start": Field("from when it is in force; default: now"),
            "basis": Field("ready or allocated: the meter that is paid by; default: ready"),
            "price": Field("shown (at the launch) or book (as it goes); default: shown"),
            "minimum_s": Field("seconds that each launch pays at least", is_whole=True),
            "markup_percent": Field("percent over list price", is_whole=True),
            "free": Field("what is free each month, in the customer's currency"),
            "storage": Field("yes or no: disks and addresses after a stop; default: no"),
        },
        writes=True,
        admin=True,
    ),
    "price.list": Verb("list the price book"),
    "price.add": Verb(
        "take a price list (CSV) into the book, whole or not at all",
        {"csv": _needs("the price list; on the command line a file's name")},
        writes=True,
        admin=True,
    ),
    "price.refresh": Verb(
        "take what the clouds ask, by this version's list or another (CSV), and say what is old",
        {"csv": Field("a list; on the command line a file's name. Default: this version's")},
        writes=True,
        admin=True,
    ),
    "invoice.list": Verb("list invoices and credit notes, newest first", {"customer": CUSTOMER}),
    "invoice.show": Verb("show what a document says and where it stands", {"number": NUMBER}),
    "invoice.pdf": Verb("get a document's PDF as it was frozen", {"number": NUMBER}),
    "invoice.draft": Verb(
        "show what a month's invoice would say now", {"customer": CUSTOMER, "month": MONTH}
    ),
    "invoice.finalise": Verb(
        "freeze a month's invoice under the next number",
        {"customer": WHOSE, "month": _needs("the month, such as 2026-11")},
        writes=True,
        admin=True,
    ),
    "invoice.credit": Verb(
        "take back an invoice, or an amount of it, by a credit note",
        {
            "number": NUMBER,
            "reason": _needs("why, as the note says it"),
            "amount": Field("how much; default: all that is left"),
        },
        writes=True,
        admin=True,
    ),
    "invoice.pay": Verb(
        "mark an invoice as paid",
        {"number": NUMBER, "reference": _needs("the payment's reference")},
        writes=True,
        admin=True,
    ),
    "line.explain": Verb(
        "explain a line of a statement: segment, seconds, prices, amount",
        {"line": Field("the line's number", is_required=True, is_whole=True)},
    ),
    "ledger.check": Verb(
        "check the books: journals, kept balances, each line worked out again", admin=True
    ),
    "ledger.export": Verb("export the journal for beancount", admin=True),
    "ledger.rebuild": Verb(
        "work every kept balance out anew from the entries", writes=True, admin=True
    ),
    "reconcile.list": Verb(
        "list the days of the clouds' bills, held against the meter", admin=True
    ),
    "reconcile.take": Verb(
        "take in a cloud's bill (FOCUS or its own columns, CSV or Parquet) and compare it",
        {
            "base64": _needs("the bill in base64; on the command line a file's name"),
            "name": Field("what to call it"),
        },
        writes=True,
        admin=True,
    ),
    "month.show": Verb(
        "show a month: lines, what grants paid, what is owed, its days",
        {"customer": CUSTOMER, "month": MONTH},
    ),
    "month.pdf": Verb("get a month's statement as PDF", {"customer": CUSTOMER, "month": MONTH}),
}

REASON = _needs("why; the person and the log read it")

# For the hub's admins alone.
FLEET_VERBS: dict[str, Verb] = {
    "orphan.list": Verb("list what runs in a cloud and belongs to nobody"),
    "quarantine.list": Verb("list who may start nothing, by whom and why"),
    "quarantine.release": Verb(
        "let a person start instances again",
        {"user": USER, "reason": REASON},
        writes=True,
    ),
    "home.list": Verb(
        "list the homes that are kept, by owner, server and place", {"user": Field("whose")}
    ),
    "home.remove": Verb(
        "remove a person's home for ever; their instances must be stopped",
        {
            "user": USER,
            "server": Field("the server whose home it is; default: the default server"),
            "cloud": Field("where it is; needed where the server has homes in several places"),
            "region": Field("where it is; as the cloud"),
            "reason": REASON,
            "confirm": Field("the user's name again; asked for where it is left out"),
        },
        writes=True,
    ),
    "dataset.list": Verb("list datasets and who may mount them"),
    "dataset.grant": Verb(
        "let a person mount a dataset",
        {"dataset": _needs("its name"), "to": _needs("the hub user's name; * is everyone")},
        writes=True,
    ),
    "dataset.withdraw": Verb(
        "take a dataset back: mounts refuse to open its files within seconds",
        {"dataset": _needs("its name"), "to": _needs("whose grant ends"), "reason": REASON},
        writes=True,
    ),
}
