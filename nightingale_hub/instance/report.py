"""What the command line prints: plain lines of text from the console's JSON.

Every text that came from elsewhere passes `visible`, so that nothing printed can move a cursor
or change a colour. Amounts are exact.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from nightingale_hub.clock import format_duration, format_time
from nightingale_hub.money import format_money, format_rate
from nightingale_hub.text import visible

NONE = "-"


def format_table(header: Sequence[str], rows: Iterable[Sequence[str]], right: str = "") -> str:
    """Return *rows* in columns under *header*; the columns named in *right* are right aligned."""
    lines = [list(header), *([visible(cell) for cell in row] for row in rows)]
    widths = [max(len(line[index]) for line in lines) for index in range(len(header))]
    aligned = right.split()
    return "\n".join(
        "  ".join(
            cell.rjust(width) if name in aligned else cell.ljust(width)
            for name, cell, width in zip(header, line, widths, strict=True)
        ).rstrip()
        for line in lines
    )


def format_status(
    status: dict[str, Any], local: dict[str, Any] | None, runs: Sequence[dict[str, Any]] = ()
) -> str:
    """Return the console's status, the instance's own and its open runs, as labelled lines."""
    one = status["instance"]
    facts: list[tuple[str, str]] = []
    if one is None:
        facts.append(("Instance", "none runs for this server"))
    else:
        facts += _list_instance_facts(one, status["month_micro"])
    if status.get("left"):
        facts.append(("Left", f"{format_left(status['left'])} of {status['left']['of']}"))
    if status["audit"] is not None:
        facts.append(("Audit", _format_audit(status["audit"])))
    facts += _list_dataset_facts(status["datasets"], local)
    if status.get("closed"):
        until = format_time(status["closed"]["until_us"])
        facts.append(("Data closed", f"until {until}: {status['closed']['reason']}"))
    facts += [("Runs", f"{each['id']}, {each['state']}: {_name_run(each)}") for each in runs]
    for note in (local or {}).get("isolation") or ():
        facts.append(("Not isolated", str(note)))
    for text in status["missing"]:
        facts.append(("Missing", text))
    return format_facts(facts)


def format_facts(facts: Iterable[tuple[str, str]]) -> str:
    """Return labelled lines; a label that repeats is written once."""
    lines = []
    last = ""
    for label, text in facts:
        lines.append(f"{label if label != last else '':<13} {visible(text)}".rstrip())
        last = label
    return "\n".join(lines)


def format_cost(cost: dict[str, Any]) -> str:
    """Return every line, then the sums, the total last."""
    currency = cost["currency"]
    rows = [
        (
            line["instance_id"],
            _format_time(line["start_us"]),
            _format_count(line["seconds"]),
            format_rate(line["nano_per_hour"], currency),
            format_money(line["amount_micro"], currency),
            line["state"],
        )
        for line in cost["lines"]
    ]
    sums = [
        ("Posted", format_money(cost["posted_micro"], currency)),
        ("Running", format_money(cost["running_micro"], currency)),
        ("Total", format_money(cost["total_micro"], currency)),
    ]
    width = max(len(amount) for _, amount in sums)
    header = ("INSTANCE", "START", "SECONDS", "RATE", "AMOUNT", "STATE")
    return "\n".join(
        [
            f"Since {format_time(cost['since_us'])}",
            *([format_table(header, rows, "SECONDS RATE AMOUNT")] if rows else []),
            *(f"{label:<8} {amount.rjust(width)}" for label, amount in sums),
        ]
    )


def format_sizes(sizes: dict[str, Any]) -> str:
    """Return what each size gives and costs, which one is yours, and why one can't be had."""
    rows = []
    for each in sizes["sizes"]:
        nano = each["nano_per_hour"]
        rate = NONE if nano is None else format_rate(nano, sizes["currency"])
        note = "yours" if each["is_current"] else each["refusal"]
        rows.append((each["resource"], each["size"], each["gives"], rate, note))
    table = format_table(("RESOURCE", "SIZE", "GIVES", "RATE", "NOTE"), rows, "RATE")
    where = visible(f"{sizes['cloud']} {sizes['region']}")
    how = "the rate of an instance is the sum of its three sizes"
    if not where.startswith("local "):
        how = "a cloud gives the cheapest type that covers cpu and gpu: rates say from what on"
    return f"Sizes on {where}; {how}\n{table}"


def format_runs(runs: list[dict[str, Any]]) -> str:
    """Return runs, the newest last."""
    rows = []
    for each in runs:
        then = each["then"] or NONE
        if each["then_size"]:
            then += ":" + ",".join(f"{name}={size}" for name, size in each["then_size"].items())
        rows.append((each["id"], each["state"], _name_run(each), then, each["outcome"] or NONE))
    if not rows:
        return "No run yet: nightingale run -- CMD"
    return format_table(("RUN", "STATE", "WHAT", "THEN", "OUTCOME"), rows)


def format_stop_plan(one: dict[str, Any]) -> str:
    """Return what a stop of instance *one* will do, and what it has cost."""
    return format_facts(
        [
            ("Instance", f"{one['id']}, {one['size']}"),
            ("Cost so far", _format_amount(one)),
            ("A stop", "ends its kernels and terminals at once, this one too"),
            ("", "keeps the files in your home directory"),
            ("", "ends the charge when it is accepted"),
        ]
    )


def format_resize_plan(plan: dict[str, Any]) -> str:
    """Return what a resize will do, and what it costs."""
    more, currency = plan["more_nano_per_hour"], plan["currency"]
    apart = f"{format_rate(abs(more), currency)} {'more' if more > 0 else 'less'}"
    return format_facts(
        [
            ("From", _format_offer(plan["now"], currency)),
            ("To", _format_offer(plan["then"], currency)),
            ("Price", apart if more else "the same"),
            ("A resize", "keeps the files in your home directory, and the old size if it fails"),
            ("", "may restart the server where the cloud cannot do without: save your work"),
        ]
    )


def _format_offer(offer: dict[str, Any], currency: str) -> str:
    return f"{offer['size']} at {format_rate(offer['nano_per_hour'], currency)}"


def format_left(left: dict[str, Any]) -> str:
    """Return what is left to spend."""
    return format_money(left["left_micro"], left["currency"])


def format_final_cost(one: dict[str, Any]) -> str:
    """Return the cost of a stopped instance, in a sentence."""
    return f"Final cost: {_format_amount(one)}."


def _list_instance_facts(one: dict[str, Any], month: int | None) -> list[tuple[str, str]]:
    facts = [
        ("Instance", f"{one['id']} on {one['cloud']} {one['region']}"),
        ("Size", one["size"]),
        ("State", f"{one['state']} since {format_time(one['since_us'])}"),
    ]
    if one["state"] == "running" and one["is_healthy"] is False:
        facts.append(("Health", f"does not answer; last did {_format_time(one['last_ok_us'])}"))
    if one["reason"]:
        facts.append(("Why it stops", one["reason"]))
    facts += [
        ("Rate", _format_rate(one)),
        ("Cost so far", _format_amount(one)),
    ]
    if month is not None:
        facts.append(("This month", format_money(month, one["currency"])))
    return facts


def _list_dataset_facts(
    datasets: list[dict[str, Any]], local: dict[str, Any] | None
) -> list[tuple[str, str]]:
    refusal = (local or {}).get("data_refused")
    path = (local or {}).get("datasets")
    facts = []
    if refusal:
        facts.append(("Datasets", f"none is mounted: {refusal}"))
    elif path:
        facts.append(("Datasets", f"mounted read-only in {path}; every read is recorded"))
    elif local is not None:
        facts.append(("Datasets", "none is mounted"))
    audit = (local or {}).get("audit") or {}
    if audit.get("state", "served") != "served":
        facts.append(("Reading", f"{audit.get('says')}: {audit.get('why')}"))
    # An agent says what it mounted at its start; what may be mounted since waits for the next.
    mounted = None if refusal else (local or {}).get("mounted")
    for each in datasets:
        waits = mounted is not None and each["name"] not in mounted
        says = "; mounted at the next start" if waits else ""
        facts.append(("Granted", f"{each['name']}: {each['title']}{says}"))
    return facts


def _format_audit(audit: dict[str, Any]) -> str:
    waiting = audit["received_seq"] - audit["indexed_seq"]
    searchable = "all searchable" if waiting <= 0 else f"{waiting:,} not searchable yet"
    return (
        f"{audit['received_seq']:,} records stored, {searchable}: {audit['files']:,} files, "
        f"{audit['reads']:,} reads, {audit['bytes']:,} bytes"
    )


def _name_run(run: dict[str, Any]) -> str:
    return " ".join(run["command"])[:60] if run["command"] else f"waits for {run['work']}"


def _format_amount(one: dict[str, Any]) -> str:
    if one["amount_micro"] is None or one["seconds"] is None:
        return "nothing, it was never ready" if one["ready_us"] is None else "unknown for now"
    amount, seconds = format_money(one["amount_micro"], one["currency"]), one["seconds"]
    exactly = f"{amount} for {seconds:,} s"
    return exactly if seconds < 60 else f"{exactly} ({format_duration(seconds)})"


def _format_rate(one: dict[str, Any]) -> str:
    if one["nano_per_hour"] is None:
        return "unknown for now"
    return format_rate(one["nano_per_hour"], one["currency"])


def _format_time(at_us: int | None) -> str:
    return NONE if at_us is None else format_time(at_us)


def _format_count(count: int | None) -> str:
    return NONE if count is None else f"{count:,}"
