"""`nightingale admin`: money (customers to invoices), and the fleet (orphans, homes, datasets).

With a token it asks the console, from anywhere. With the hub's configuration, on the hub's own
machine, it asks the desk in this process, over the database that the configuration names: who may
read that file is an admin.
"""

import argparse
import base64
import getpass
import importlib
import json
import os
from pathlib import Path
from typing import Any

from nightingale_hub.clock import format_time, now_us
from nightingale_hub.desk import FLEET_VERBS, VERBS, Verb
from nightingale_hub.errors import BadInput
from nightingale_hub.instance.console_client import ConsoleClient
from nightingale_hub.instance.report import format_facts, format_table
from nightingale_hub.instance.terminal import ask_line, check_can_ask, say
from nightingale_hub.money import format_minor, format_money, format_rate
from nightingale_hub.text import visible

CONFIG_NAME = "NIGHTINGALE_CONFIG"
ALL_VERBS = {**VERBS, **FLEET_VERBS}
EXPLAIN = "Explain a line: its segment, its seconds, their prices, the amount."
HIDDEN = {"base64", "content", "days", "pieces"}


def add_admin(parser: argparse.ArgumentParser) -> None:
    """Add the nouns and verbs of the desk, and how to reach it, to *parser*."""
    parser.add_argument(
        "--config",
        metavar="FILE",
        default=os.environ.get(CONFIG_NAME),
        help="the hub's jupyterhub_config.py, on the hub's machine; "
        f"default: ${CONFIG_NAME}, else ask the console with a token",
    )
    nouns = parser.add_subparsers(dest="noun", metavar="NOUN", required=True)
    explain = nouns.add_parser("explain", help="a line of a statement", description=EXPLAIN)
    explain.add_argument("field_line", type=int, metavar="LINE", help="the line's number")
    explain.set_defaults(noun="line", verb="explain")
    text = FLEET_VERBS["orphan.list"].text
    orphans = nouns.add_parser("orphans", help=text, description=f"{text.capitalize()}.")
    orphans.set_defaults(noun="orphan", verb="list")
    made: dict[str, Any] = {}
    for name, verb in ALL_VERBS.items():
        noun, _, does = name.partition(".")
        if noun == "orphan":
            continue  # above, in one word
        if noun not in made:
            texts = ", ".join(
                each.partition(".")[2] for each in ALL_VERBS if each.startswith(f"{noun}.")
            )
            also = ["prices"] if noun == "price" else []
            one = nouns.add_parser(noun, aliases=also, help=texts, description=f"{noun}: {texts}.")
            made[noun] = one.add_subparsers(dest="verb", metavar="VERB", required=True)
        command = made[noun].add_parser(
            does, help=verb.text, description=f"{verb.text[0].upper()}{verb.text[1:]}."
        )
        for field, each in verb.fields.items():
            command.add_argument(
                f"--{field.replace('_', '-')}",
                dest=f"field_{field}",
                required=each.is_required,
                type=int if each.is_whole else str,
                metavar="N" if each.is_whole else "TEXT",
                help=each.text,
            )
        if does in ("pdf", "export"):
            command.add_argument("--out", metavar="FILE", help="where it goes")
        if "confirm" in verb.fields:
            command.add_argument("-y", "--yes", action="store_true", help="do not ask")


def run_admin(options: argparse.Namespace, console: ConsoleClient | None) -> None:
    """Ask the desk and print its answer; raises what it raises."""
    name = f"{options.noun}.{options.verb}"
    if name not in ALL_VERBS:  # `prices refresh` reads as well as `price refresh`
        name = f"{options.noun.removesuffix('s')}.{options.verb}"
    verb = ALL_VERBS[name]
    fields = {
        field: getattr(options, f"field_{field}")
        for field in verb.fields
        if getattr(options, f"field_{field}") is not None
    }
    if "csv" in fields:
        fields["csv"] = _read_list(fields["csv"])
    if name == "reconcile.take":
        fields["name"] = fields.get("name", Path(fields["base64"]).name)
        fields["base64"] = _read_bill(fields["base64"])
    if "confirm" in verb.fields and "confirm" not in fields:
        fields["confirm"] = _confirm(fields["user"], options.yes)
    if options.config is not None:
        answer = _ask_here(options.config, name, verb, fields)
    else:
        assert console is not None, "main makes one where there is no configuration"
        answer = _ask_console(console, name, verb, fields)
    if options.json:
        print(json.dumps(answer))
    elif "base64" in answer:
        print(_write_pdf(answer, options.out))
    else:
        print(format_answer(answer))


def format_answer(answer: dict[str, Any]) -> str:
    """Return an answer as facts, then its lists as tables; amounts exact, in their currency."""
    currency = str(answer.get("currency") or "USD")
    facts = [
        (
            key.rpartition("_")[0] if key.endswith(("_micro", "_us")) else key,
            _format(key, each, currency),
        )
        for key, each in answer.items()
        if not isinstance(each, list) and key not in HIDDEN
    ]
    parts = [format_facts(facts)] if facts else []
    for key, rows in answer.items():
        if isinstance(rows, list) and key not in HIDDEN:
            parts.append(_format_rows(key, rows, currency))
    return "\n".join(parts)


def _format_rows(name: str, rows: list[Any], currency: str) -> str:
    if not rows:
        return f"no {name}"
    header = [key for key in rows[0] if key not in HIDDEN and not isinstance(rows[0][key], list)]
    cells = [
        [_format(key, row.get(key), str(row.get("currency") or currency)) for key in header]
        for row in rows
    ]
    return format_table([_title(key).upper() for key in header], cells)


def _title(key: str) -> str:
    return key.removesuffix("_us").removesuffix("_micro").removesuffix("_minor")


def _format(key: str, value: Any, currency: str) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, dict):
        return " ".join(f"{name}={each}" for name, each in value.items()) or "-"
    if type(value) is int:
        if key.endswith("_micro"):
            return format_money(value, currency)
        if key.endswith("_minor"):
            return format_minor(value, currency)
        if key == "nano_per_hour":
            return format_rate(value, currency)
        if key.endswith("_us"):
            return format_time(value)
    return visible(str(value))


def _ask_console(
    console: ConsoleClient, name: str, verb: Verb, fields: dict[str, Any]
) -> dict[str, Any]:
    path = f"fleet/{name}" if name in FLEET_VERBS else f"money/{name}"
    return console.post(path, fields) if verb.writes else console.get(path, **fields)


def _confirm(user: str, is_sure: bool) -> str:
    """Return the name that a person types to confirm; raises `BadInput` where nobody can be asked.

    A name that is not *user* changes nothing: whoever answers refuses it.
    """
    if is_sure:
        return user
    check_can_ask("home remove")
    say(f"The home of {visible(user)} is removed for ever, with every file in it.")
    return ask_line("Type the user's name to remove it: ")


def _ask_here(config: str, name: str, verb: Verb, fields: dict[str, Any]) -> dict[str, Any]:
    # Named, not imported: an instance has no services, and no jupyterhub.
    loader = importlib.import_module("traitlets.config.loader")
    path = Path(config)
    if not path.is_file():
        raise BadInput(f"--config {str(path)[:200]!r} is no file; name the hub's own configuration")
    loaded = loader.PyFileConfigLoader(path.name, path=str(path.absolute().parent)).load_config()
    if "hub_settings" not in loaded.TerraformSpawner:
        raise BadInput(f"{path.name} calls no nightingale_hub.configure(c)")
    settings = importlib.import_module("nightingale_hub.settings").NightingaleHub.from_dict(
        dict(loaded.TerraformSpawner.hub_settings)
    )
    database = importlib.import_module("nightingale_hub.database").Database(settings.db_url)
    at_us, who = now_us(), f"{getpass.getuser()} on the hub's machine"

    def work(conn: Any) -> dict[str, Any]:
        answer: dict[str, Any]
        if name in FLEET_VERBS:
            fleet = importlib.import_module("nightingale_hub.fleet")
            answer = fleet.serve(conn, name, who, fields, at_us)
            return answer
        desk = importlib.import_module("nightingale_hub.services.billing.desk.visit")
        verbs = importlib.import_module("nightingale_hub.services.billing.desk.verbs")
        visit = desk.Visit(
            conn, who, True, at_us, settings.invoice_issuer, settings.invoice_due_days
        )
        answer = verbs.serve(visit, name, fields)
        return answer

    try:
        if verb.writes:
            answer: dict[str, Any] = database.transact(work)
            return answer
        with database.read() as conn:
            return work(conn)
    finally:
        database.dispose()


def _read_list(name: str) -> str:
    try:
        return Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"--csv {name[:200]!r} cannot be read as text") from error


def _read_bill(name: str) -> str:
    try:
        return base64.b64encode(Path(name).read_bytes()).decode()
    except OSError as error:
        raise BadInput(f"the bill {name[:200]!r} cannot be read") from error


def _write_pdf(answer: dict[str, Any], out: str | None) -> str:
    path = Path(out or answer["name"])
    path.write_bytes(base64.b64decode(answer["base64"]))
    return f"{visible(str(path))} sha256 {answer['sha256']}"
