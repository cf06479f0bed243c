"""What Prometheus is told: by each service, to whom, and that every rule asks for what is told."""

import asyncio
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text as sql

from nightingale_hub.clock import now_us
from nightingale_hub.metrics import PREFIX, Fact, MetricsHandler
from nightingale_hub.service import Loop, LoopWatch, Service, _repeat
from nightingale_hub.services.audit.facts import FACTS as AUDIT
from nightingale_hub.services.billing.facts import FACTS as BILLING
from nightingale_hub.services.console.facts import FACTS as CONSOLE
from nightingale_hub.services.metering.facts import FACTS as METERING
from nightingale_hub.services.supervisor.facts import FACTS as SUPERVISOR
from tests.record import add_instance
from tests.serving import TOKENS, serving

DOCS = Path(__file__).parent.parent / "docs"
FACTS = {
    "supervisor": SUPERVISOR,
    "metering": METERING,
    "billing": BILLING,
    "audit": AUDIT,
    "console": CONSOLE,
}
MISSING = sql("SELECT 1 FROM nowhere")
OF_EACH = {"service_epoch", "database_up", "loop_failures_total", "loop_due_timestamp_seconds"}
TOLD = {PREFIX + name for name in OF_EACH | {fact.name for each in FACTS.values() for fact in each}}


@pytest.fixture
def prometheus(monkeypatch):
    token = {"kind": "service", "name": "prometheus", "scopes": ["read:metrics"]}
    monkeypatch.setitem(TOKENS, "prometheus-token", token)
    return {"Authorization": "Bearer prometheus-token"}


def service_of(name):
    routes = [("metrics", MetricsHandler, {"facts": FACTS[name]})]
    loop = LoopWatch(1_700_000_000_000_000, failures=2)
    return lambda _context: Service(routes=routes, application={"loops": {"work": loop}})


def figures(text):
    families = text_string_to_metric_families(text)
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in families
        for sample in family.samples
    }


def run_promtool(*arguments, given=""):
    promtool = shutil.which("promtool")
    assert promtool is not None, "promtool is not installed; run bin/test, which installs it"
    done = subprocess.run(
        [promtool, *arguments], input=given, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr


@pytest.mark.parametrize("name", FACTS)
async def test_each_service_tells_its_figures_as_prometheus_asks(database, prometheus, name):
    async with serving(name, database, service_of(name)) as (client, _):
        answer = await client.http.get("metrics", headers=prometheus)
    assert answer.status_code == 200, answer.text
    told = figures(answer.text)
    assert told["nightingale_database_up",] == 1
    assert told["nightingale_loop_failures_total", "work"] == 2
    assert told["nightingale_loop_due_timestamp_seconds", "work"] == 1_700_000_000
    run_promtool("check", "metrics", given=answer.text)


async def test_what_is_counted_is_there(database, prometheus):
    with database.write() as conn:
        for _ in range(2):
            add_instance(conn, owner="alice", server_name=str(_))
    async with serving("supervisor", database, service_of("supervisor")) as (client, _):
        told = figures((await client.http.get("metrics", headers=prometheus)).text)
    assert told["nightingale_instances", "local", "running"] == 2


async def test_only_a_token_for_metrics_reads_them(database, prometheus):
    async with serving("billing", database, service_of("billing")) as (client, _):
        for token in ("", "alice-token", "console-token", "unknown"):
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            answer = await client.http.get("metrics", headers=headers)
            assert answer.status_code == 403
            assert PREFIX not in answer.text


async def test_a_database_that_is_away_is_told(database, prometheus):
    lost = Fact("lost", "Of a table that is not there.", (), lambda conn: conn.execute(MISSING))
    routes = [("metrics", MetricsHandler, {"facts": (lost, *BILLING)})]
    async with serving("billing", database, lambda _context: Service(routes=routes)) as served:
        told = figures((await served[0].http.get("metrics", headers=prometheus)).text)
    assert told["nightingale_database_up",] == 0
    assert told["nightingale_service_epoch",] == 1
    assert not any(name == "nightingale_journals_total" for name, *_ in told)


async def test_a_loop_that_fails_is_counted_and_goes_on():
    watch, steps = LoopWatch(1), 0
    done = asyncio.Event()

    async def step():
        nonlocal steps
        steps += 1
        if steps == 1:
            raise OSError("once")
        done.set()

    before = now_us()
    task = asyncio.create_task(_repeat(Loop("work", 0.5, step), watch))
    await asyncio.wait_for(done.wait(), 30)
    await asyncio.sleep(0)
    task.cancel()
    assert watch.failures == 1
    assert before + 500_000 <= watch.due_us <= now_us() + 500_000


def test_every_figure_is_in_the_docs_and_every_rule_and_panel_asks_for_one():
    text = (DOCS / "observability.md").read_text()
    described = {
        each
        for line in text.splitlines()
        if line.startswith("| `nightingale_")
        for each in re.findall(r"nightingale_\w+", line)
    }
    assert described == TOLD
    for file in ("alerts.yml", "grafana.json"):
        asked = set(re.findall(r"nightingale_\w+", (DOCS / file).read_text()))
        assert asked
        assert asked <= TOLD
    panels = json.loads((DOCS / "grafana.json").read_text())["panels"]
    assert len({each["id"] for each in panels}) == len(panels)


def test_every_alert_is_a_rule_that_prometheus_takes_and_has_its_section():
    run_promtool("check", "rules", str(DOCS / "alerts.yml"))
    rules = (DOCS / "alerts.yml").read_text()
    alerts = re.findall(r"alert: (\w+)", rules)
    text = (DOCS / "observability.md").read_text()
    assert alerts == re.findall(r"^### (\w+)$", text, re.MULTILINE)
    assert re.findall(r"runbook: (\S+)", rules) == [f"observability.md#{a.lower()}" for a in alerts]
