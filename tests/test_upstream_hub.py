"""JupyterHub's own tests of its servers pass with our spawner; the rest is `bin/soak upstream`."""

import pytest

from tests.soak.upstream import MODULES, run_modules
from tests.upstream_hub import LEFT_OUT, LONG, ONCE, is_run

LEAST = {"test_api": 30, "test_named_servers": 10}


@pytest.mark.parametrize("module", MODULES)
def test_their_tests_pass_with_our_spawner(module):
    counts, failures, said = run_modules((module,), has_time=False)
    assert (failures, counts["status"]) == ({}, 0), said
    assert counts["tests"] >= LEAST[module]


def test_what_is_left_out_has_its_reason_and_the_soak_leaves_out_nothing_else():
    assert all(len(reason.split()) > 4 for reason in LEFT_OUT.values())
    assert not any(is_run(name, True) for name in LEFT_OUT)
    assert all(is_run(name, True) and not is_run(name, False) for name in LONG)
    for name, way in ONCE.items():
        assert is_run(f"{name}[x{way}", True) and is_run(f"{name}[x{way}", False)
        assert is_run(f"{name}[x-False]", True) and not is_run(f"{name}[x-False]", False)
