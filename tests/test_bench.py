"""The benchmarks' arithmetic is right, and a miss, an error or a lost event is never a pass."""

import json
import os
import random
import shutil
from statistics import median

import pytest

from tests.bench import audit
from tests.bench.__main__ import main
from tests.bench.frame import Figure, Report, format_report, run_paired
from tests.bench.statistics import bootstrap_interval, ratios
from tests.bench.workloads import Reader


def test_an_interval_of_equal_samples_is_that_value():
    assert bootstrap_interval([3.0] * 10) == (3.0, 3.0)


def test_an_interval_holds_the_true_median_about_as_often_as_it_says():
    rng = random.Random(7)
    held = 0
    for trial in range(100):
        samples = [rng.gauss(10, 2) for _ in range(25)]
        low, high = bootstrap_interval(samples, confidence=0.9, seed=trial)
        held += low <= 10 <= high
    assert 82 <= held <= 98


def test_more_samples_give_a_narrower_interval_and_the_same_samples_the_same_one():
    rng = random.Random(3)
    samples = [rng.uniform(0, 1) for _ in range(400)]
    few, many = bootstrap_interval(samples[:20]), bootstrap_interval(samples)
    assert many[1] - many[0] < (few[1] - few[0]) / 2
    assert bootstrap_interval(samples) == many


def test_no_samples_have_no_interval():
    with pytest.raises(ValueError, match="no samples"):
        bootstrap_interval([])


def test_what_slows_a_whole_repetition_falls_out_of_its_ratio():
    assert ratios([1.0, 10.0, 2.0], [2.0, 20.0, 4.0]) == [0.5, 0.5, 0.5]
    with pytest.raises(ValueError, match="zip"):
        ratios([1.0], [1.0, 2.0])


def test_each_repetition_runs_every_arm_once_in_an_order_of_its_own():
    calls: list[str] = []

    def arm(name):
        def work() -> float:
            calls.append(name)
            return float(len(calls))

        return work

    seconds = run_paired({name: arm(name) for name in "abc"}, 40, random.Random(1))
    assert calls[:3] == ["a", "b", "c"], "one round to warm up, which is not counted"
    rounds = [tuple(calls[at : at + 3]) for at in range(3, len(calls), 3)]
    assert len(rounds) == 40
    assert all(sorted(one) == ["a", "b", "c"] for one in rounds)
    assert len(set(rounds)) == 6, "all six orders came up"
    assert {name: len(samples) for name, samples in seconds.items()} == {"a": 40, "b": 40, "c": 40}


@pytest.mark.parametrize(
    ("figure", "is_met", "target"),
    [
        (Figure("f", "ratio", [0.3, 0.4, 0.5], at_least=0.4), True, ">= 0.4"),
        (Figure("f", "ratio", [0.3, 0.39, 0.5], at_least=0.4), False, ">= 0.4"),
        (Figure("f", "ms", [5.0], at_most=4.0), False, "<= 4"),
        (Figure("f", "ratio", [1.1], at_least=0.97, at_most=1.03), False, ">= 0.97, <= 1.03"),
        (Figure("f", "GiB/s", [5.0]), True, ""),
    ],
)
def test_a_figure_is_held_against_its_limits(figure, is_met, target):
    assert figure.is_met is is_met
    assert figure.target == target


GOOD = Report("good", [Figure("speed", "ratio", [0.5] * 5, at_least=0.4)])
SLOW = Report("slow", [Figure("speed", "ratio", [0.3] * 5, at_least=0.4)])
WRONG = Report("wrong", [Figure("speed", "ratio", [0.5] * 5)], errors=["other bytes"])
LOSING = Report("losing", [Figure("speed", "ratio", [0.5] * 5)], lost_events=1)


@pytest.mark.parametrize(("report", "status"), [(GOOD, 0), (SLOW, 1), (WRONG, 1), (LOSING, 1)])
def test_the_exit_status_tells_whether_all_is_well(report, status, capsys):
    assert main([], {report.bench: lambda quick: report}) == status
    assert ("passed" in capsys.readouterr().out) is (status == 0)


def test_one_bad_benchmark_is_enough(capsys):
    benches = {"good": lambda quick: GOOD, "losing": lambda quick: LOSING}
    assert main([], benches) == 1
    assert main(["good"], benches) == 0


def test_an_unknown_name_is_refused_before_anything_runs(capsys):
    def run(quick: bool) -> Report:
        raise AssertionError("it ran")

    assert main(["audit", "speed"], {"audit": run}) == 2
    assert capsys.readouterr().err == "bin/bench: no benchmark speed; there is: audit\n"


def test_json_holds_each_figure_with_spread_and_target(capsys):
    seen = []

    def run(quick: bool) -> Report:
        seen.append(quick)
        return SLOW

    assert main(["slow", "--quick", "--json"], {"slow": run}) == 1
    assert seen == [True]
    (report,) = json.loads(capsys.readouterr().out)
    assert report["passed"] is False
    assert report["figures"] == [
        {
            "name": "speed",
            "unit": "ratio",
            "value": 0.3,
            "low": 0.3,
            "high": 0.3,
            "samples": 5,
            "at_least": 0.4,
            "at_most": None,
            "met": False,
        }
    ]


def test_the_table_names_the_figure_that_missed():
    assert "speed" in format_report(SLOW)
    assert "MISSED" in format_report(SLOW)
    assert "MISSED" not in format_report(GOOD)


@pytest.fixture
def small_audit(monkeypatch):
    """The audit benchmark over little data, once."""
    sizes = {"FILE_BYTES": 4 << 20, "FILES": 60, "ENTRIES": 300, "RANDOM_READS": 20}
    for name, size in (sizes | {"FILES_AT_ONCE": 20, "ATTEMPTS": 1}).items():
        monkeypatch.setattr(audit, name, size)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root lets the kernel read by itself")
@pytest.mark.skipif(shutil.which("bindfs") is None, reason="the peer is Debian's bindfs")
def test_the_audit_benchmark_fills_its_whole_table_and_finds_every_byte_in_the_log(small_audit):
    report = audit.run(quick=True)  # An epoch takes half a minute, and is run by a full run.
    assert report.errors == []
    assert report.lost_events == 0
    assert report.events > 500
    figures = {figure.name: figure for figure in report.figures}
    for name, (_, floors) in audit.WORKS.items():
        for policy, floor in floors.items():
            assert figures[f"{name}: {policy}"].at_least == floor
            assert len(figures[f"{name}: {policy}"].samples) == 6
            assert median(figures[f"{name}: {policy}"].samples) > 0
    for name, (policy, _) in audit.AGAINST.items():
        for peer in ("bindfs", "passthrough_ll", "fusepy"):
            assert figures[f"{name}: {policy} / {peer}"].at_least == 1.0
    for name, policy in audit.COSTS.items():
        assert figures[f"{name}: {policy}, audit on / off"].at_least == 0.95
    assert {"scan of 300 entries, first", "scan of 300 entries, again"} <= set(figures)


def test_bytes_that_the_log_does_not_hold_are_an_error(tmp_path):
    report = Report("audit")
    reader = Reader(tmp_path, seed=1)
    reader.done["image.bin"] = 4096
    reader.opens = 2
    audit.count_events(report, tmp_path, "strict", reader)
    assert report.errors == [
        "read 4096 bytes by strict, logged 0",
        "opened 2 files by strict, logged 0",
    ]
