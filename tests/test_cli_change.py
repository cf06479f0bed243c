"""`nightingale resize` and `extend`: a real process, a real console, parts that answer or fail."""

import json

import pytest

from nightingale_hub.clock import now_us
from nightingale_hub.errors import BadInput
from nightingale_hub.instance.change import parse_duration
from nightingale_hub.resizing import Phase, close
from nightingale_hub.tables.instances import instance
from nightingale_hub.tables.supervision import resize
from tests.console import CHANGE, STOP
from tests.test_cli import alice, environment, run

__all__ = ["alice"]  # a fixture

PLAN = {
    "now": {"size": "cpu S, gpu none, disk S", "nano_per_hour": 41_000_000},
    "then": {"size": "cpu M, gpu none, disk S", "nano_per_hour": 82_000_000},
    "more_nano_per_hour": 41_000_000,
    "currency": "USD",
}


@pytest.fixture
def resizing(console, alice):
    """Has the supervisor's answer, and what it then writes into the record, at once."""

    def prepare(phase=Phase.DONE, outcome="Resized to cpu M, gpu none, disk S"):
        def answer(query, body):
            if body:
                with console.db.write() as conn:
                    written = conn.execute(
                        resize.insert()
                        .values(
                            instance_id=alice["INSTANCE"],
                            instance_type="local-M-none-S",
                            cpu="M",
                            gpu="none",
                            disk="S",
                            nano_usd_per_hour=82_000_000,
                            actor="alice",
                            phase="asked",
                            asked_us=now_us(),
                        )
                        .returning(resize.c.id)
                    )
                    close(conn, written.scalar_one(), phase, now_us(), outcome)
                    if phase == Phase.DONE:
                        size = {name: body[name] for name in ("cpu", "gpu", "disk")}
                        has = instance.c.id == alice["INSTANCE"]
                        conn.execute(instance.update().where(has).values(**size))
            return PLAN

        console.parts["supervisor"].answers[r"instances/[^/]+/resize"] = answer
        return console.parts["supervisor"]

    yield prepare
    with console.db.write() as conn:
        conn.execute(resize.delete())


def test_a_resize_asks_for_what_is_named_and_says_how_it_ended(alice, resizing):
    supervisor = resizing()
    done = run(alice, "resize", "--cpu", "M", "-y")
    assert (done.returncode, done.stdout) == (0, "Resized to cpu M, gpu none, disk S.\n")
    [(method, path, _, body)] = supervisor.asked
    assert (method, path) == ("POST", f"instances/{alice['INSTANCE']}/resize")
    assert body == {"cpu": "M", "gpu": "none", "disk": "S", "actor": "alice"}


def test_json_holds_the_plan_and_the_end(alice, resizing):
    resizing()
    done = run(alice, "resize", "--cpu", "M", "-y", "--json")
    answer = json.loads(done.stdout)
    assert answer["plan"] == PLAN
    assert answer["last"]["phase"] == "done"


def test_an_old_size_that_was_kept_is_a_conflict_with_the_reason(alice, resizing):
    resizing(Phase.TAKEN_BACK, "It keeps cpu S, gpu none, disk S: no capacity left")
    done = run(alice, "resize", "--cpu", "M", "-y")
    assert done.returncode == 5
    assert "It keeps cpu S, gpu none, disk S: no capacity left" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["resize", "-y"], "name a size"),
        (["resize", "--cpu", "M"], "give -y to resize without asking"),
        (["extend", "soon"], "is no time; write 90m, 2h or 1d"),
        (["extend", "0h"], "is no time"),
        (["extend", "2h; rm -rf /"], "is no time"),
    ],
)
def test_a_wrong_command_line_changes_nothing(console, alice, arguments, says):
    console.parts["supervisor"].reset()
    done = run(alice, *arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert console.parts["supervisor"].asked == []


@pytest.mark.parametrize(
    ("code", "status", "exit_code"),
    [("over_quota", 403, 3), ("no_offer", 400, 2), ("conflict", 409, 5), ("bad_input", 400, 2)],
)
def test_a_refusal_keeps_its_reason_and_its_code(console, alice, code, status, exit_code):
    supervisor = console.parts["supervisor"]
    supervisor.answers[r"instances/[^/]+/resize"] = {"error": {"code": code, "message": "why not"}}
    supervisor.status = status
    done = run(alice, "resize", "--cpu", "XL", "-y", "--json")
    supervisor.reset()
    assert done.returncode == exit_code
    assert json.loads(done.stdout)["error"] == {"code": code, "message": "why not"}


def test_extend_says_until_when(console, alice):
    console.parts["supervisor"].answers[r"instances/[^/]+/keep"] = {"keep_until_us": 3_600_000_000}
    done = run(alice, "extend", "90m")
    assert done.stdout == "It is not stopped as idle before 1970-01-01 01:00:00 UTC.\n"
    assert console.parts["supervisor"].asked[-1][3] == {"for_s": 5400}


def test_a_token_that_may_not_change_changes_nothing(console, alice):
    model = console.hub.models[alice["JUPYTERHUB_API_TOKEN"]]
    model["scopes"] = [each for each in model["scopes"] if CHANGE not in each]
    assert any(STOP in each for each in model["scopes"])
    for arguments in (["resize", "--cpu", "M", "-y"], ["extend", "2h"]):
        done = run(alice, *arguments)
        assert done.returncode == 3
        assert "this token may not change its instance" in done.stderr


def test_where_nothing_runs_nothing_is_changed(console):
    env = environment(console.url, console.server_token("nobody"))
    assert run(env, "resize", "--cpu", "M", "-y").returncode == 4
    assert run(env, "extend", "2h").returncode == 4


@pytest.mark.parametrize(("text", "seconds"), [("90m", 5400), ("2h", 7200), ("1d", 86400)])
def test_a_duration_is_read_in_its_unit(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "-1h", "1.5h", "1w", "100000h", "\u0661h"])
def test_a_duration_that_is_none_is_refused(text):
    with pytest.raises(BadInput):
        parse_duration(text)
