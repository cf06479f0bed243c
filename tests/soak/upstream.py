"""JupyterHub's own tests of its servers, with our spawner in place of theirs (upstream_hub.py)."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from xml.etree import ElementTree

from tests.upstream_hub import LEFT_OUT

ROOT = Path(__file__).parents[2]
MODULES = ("test_api", "test_named_servers")
WITHIN_S = 800.0


def run(sample: int | None, _seed: int) -> tuple[str, bool]:
    """Run all of them, or with *sample* the quick part; return the report, and if all passed."""
    began_s = time.monotonic()
    counts, failures, said = run_modules(MODULES, sample is None)
    lines = [
        "# Soak: upstream",
        "",
        f"{counts['tests']} tests of {' and '.join(f'`jupyterhub.tests.{m}`' for m in MODULES)} "
        f"with our spawner, in {time.monotonic() - began_s:.0f} s; {len(failures)} failed. Each "
        "server in them is an instance of the local cloud, made by one supervisor and Terraform.",
        "",
        "| Left out | Because |",
        "|---|---|",
        *(f"| `{name}` | {reason} |" for name, reason in LEFT_OUT.items()),
    ]
    if failures:
        lines += ["", "| Failed | How |", "|---|---|"]
        lines += [f"| `{name}` | {how} |" for name, how in failures.items()]
    is_well = counts["status"] == 0 and counts["tests"] > 0
    return "\n".join(lines) + "\n" + ("" if is_well else f"\n{said}\n"), is_well


def run_modules(
    modules: tuple[str, ...], has_time: bool
) -> tuple[dict[str, int], dict[str, str], str]:
    """Run *modules* in a process of its own; return counts, what failed and how, and its output."""
    environment = {name: each for name, each in os.environ.items() if "PYTEST" not in name}
    if has_time:
        environment["UPSTREAM_ALL"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder, "results.xml")
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-c", str(ROOT / "tests" / "upstream.ini")),
                *("-p", "tests.upstream_hub", "-p", "no:cacheprovider", "--rootdir", folder),
                *("--timeout", "90", "--tb=short", "-q", f"--junitxml={results}"),
                *("--pyargs", *(f"jupyterhub.tests.{module}" for module in modules)),
            ],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=WITHIN_S,
            check=False,
        )
        counts, failures = {"status": done.returncode, "tests": 0}, {}
        if results.exists():
            for case in ElementTree.parse(results).iter("testcase"):
                counts["tests"] += 1
                for kind in ("failure", "error"):
                    for each in case.iter(kind):
                        how = " ".join((each.get("message") or kind).split())[:200]
                        failures[str(case.get("name"))] = how.replace("|", "/")
    return counts, failures, done.stdout[-6000:]
