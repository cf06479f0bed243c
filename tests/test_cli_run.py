"""`nightingale run` and what waits: real processes, a real console, a hub that goes and comes."""

import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from nightingale_hub.errors import BadInput, NotFound
from nightingale_hub.instance import runs
from nightingale_hub.instance.attempt import Ends
from nightingale_hub.instance.console_client import ConsoleClient
from nightingale_hub.instance.memory import find_next_size, find_shortage
from nightingale_hub.instance.programs import count_programs
from nightingale_hub.instance.run_command import parse_then
from nightingale_hub.instance.runner import Runner, is_idle
from nightingale_hub.instance.runs import Run, State, Work
from nightingale_hub.processes import find_identity, list_marked
from tests.client import wait_for
from tests.test_cli import PROGRAM, alice, at, false_console, run
from tests.test_cli_change import resizing

__all__ = ["alice", "false_console", "resizing"]  # fixtures
PLAN = "instances/[^/]+/resize"


@pytest.fixture
def home(console, alice, tmp_path):
    """Alice's environment with a home of its own; what still runs of it ends with the test."""
    env = {**alice, "HOME": str(tmp_path), "NIGHTINGALE_INSTANCE_ID": alice["INSTANCE"]}
    console.parts["supervisor"].answers["instances/[^/]+/keep"] = {"keep_until_us": 1}
    with console.db.write() as conn:
        for sku in ("cpu.S", "cpu.M", "gpu.none", "disk.S"):
            conn.exec_driver_sql(
                "INSERT OR IGNORE INTO price (cloud, region, sku, nano_per_hour, effective_us, "
                f"source) VALUES ('local', 'here', '{sku}', 20000000, 0, 'test')"
            )
    yield env
    for each in list_marked("NIGHTINGALE_INSTANCE_ID", alice["INSTANCE"]):
        os.kill(each.pid, signal.SIGKILL)


def only_run(env):
    [found] = runs.list_runs(env)
    return found


def ended(env):
    return wait_for(lambda: (one := only_run(env)).state == State.ENDED and one, "the run is over")


def asked(console, name):
    return [each for each in console.parts["supervisor"].asked if each[1].endswith(name)]


def test_a_run_shows_and_logs_its_output_and_ends_with_its_commands_code(console, home):
    code = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
    done = run(home, "run", "--", sys.executable, "-c", code)
    assert done.returncode == 3
    assert sorted(done.stdout.split()) == ["err", "out"]
    one = only_run(home)
    assert Path(one.log).read_text() == done.stdout
    assert f"Run {one.id}; it goes on without this terminal." in done.stderr
    assert "exit 3 after 0 s" in done.stderr
    lease = asked(console, "/keep")[0]
    assert lease[3] == {"for_s": 600, "is_lease": True}
    listed = run(home, "run").stdout.splitlines()
    assert listed[0].split() == ["RUN", "STATE", "WHAT", "THEN", "OUTCOME"]
    assert listed[1].startswith(f"{one.id}  ended  {sys.executable}")


def test_json_holds_the_run_alone(home):
    done = run(home, "run", "--json", "--", "echo", "--json")
    answer = json.loads(done.stdout)
    assert (answer["state"], answer["exit_code"], answer["command"]) == (
        "ended",
        0,
        ["echo", "--json"],
    )
    assert Path(answer["log"]).read_text() == "--json\n"


def test_a_run_outlives_a_closed_terminal_and_then_stops_the_instance(console, home, tmp_path):
    go = tmp_path / "go"
    command = ["sh", "-c", f"while ! test -e {go}; do sleep 0.1; done; echo late"]
    pid, terminal = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever runs the tests may ignore it
        os.execve(PROGRAM, [PROGRAM, "run", "--then", "stop", "--", *command], home)
    wait_for(lambda: runs.list_runs(home) and only_run(home).state == State.RUNNING, "it runs")
    os.close(terminal)  # the kernel hangs up on the whole session, as a closed tab does
    os.waitpid(pid, 0)
    assert asked(console, "/stop") == []
    go.touch()
    one = ended(home)
    assert (one.exit_code, one.then_outcome) == (0, "stopped")
    assert Path(one.log).read_text() == "late\n"
    assert len(asked(console, "/stop")) == 1


def test_ctrl_c_ends_the_command_and_nothing_follows(console, home):
    process = subprocess.Popen(
        [PROGRAM, "run", "--then", "stop", "--", "sleep", "300"],
        env=home,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    wait_for(lambda: runs.list_runs(home) and only_run(home).state == State.RUNNING, "it runs")
    time.sleep(0.5)  # until the command is there, which no file says
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "cancelled" in errors and "Traceback" not in errors
    assert asked(console, "/stop") == []


def test_a_hub_that_is_away_is_asked_again_until_the_instance_stops(console, home):
    console.hub.is_down = True
    try:
        run(home, "run", "-d", "--then", "stop", "--", "true")
        wait_for(lambda: only_run(home).then_outcome == "asked", "the stop is asked for")
    finally:
        console.hub.is_down = False
    assert ended(home).then_outcome == "stopped"


def test_its_person_is_told_how_it_ended(console, home):
    run(home, "run", "--notify", "--", "sh", "-c", "exit 2")
    told = json.loads(run_notices(home))["notices"][0]
    assert (told["kind"], told["subject"]) == ("error", "sh -c exit 2: exit 2 after 0 s")
    assert only_run(home).log in told["body"]


def run_notices(env):
    code = (
        "import json, os; from nightingale_hub.instance.console_client import ConsoleClient;"
        "print(json.dumps(ConsoleClient.from_environment(os.environ).get('notices')))"
    )
    return subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    ).stdout


def test_out_of_memory_is_run_again_three_times_at_most(home):
    code = "raise MemoryError"
    done = run(home, "run", "--on-oom", "retry", "--", sys.executable, "-c", code)
    assert done.returncode == 1
    one = only_run(home)
    assert [each["out_of_memory"] for each in one.attempts] == ["cpu"] * 3
    assert "out of cpu memory" in one.outcome


def test_another_failure_is_not_run_again(home):
    run(home, "run", "--on-oom", "retry", "--", sys.executable, "-c", "raise ValueError")
    assert len(only_run(home).attempts) == 1


def test_out_of_memory_steps_one_size_up_and_a_size_that_is_refused_is_said(
    console, home, resizing
):
    resizing()
    code = "raise MemoryError"
    run(home, "run", "--on-oom", "step-up", "--", sys.executable, "-c", code)
    first = asked(console, "/resize")[0]
    assert (first[3]["cpu"], first[3]["gpu"]) == ("M", "none")


def test_a_run_at_another_size_resizes_first_and_says_what_that_costs(console, home, resizing):
    resizing()
    refused = run(home, "run", "--cpu", "M", "--", "true")
    assert refused.returncode == 2 and "give -y to resize without asking" in refused.stderr
    assert runs.list_runs(home) == []
    done = run(home, "run", "--cpu", "M", "-y", "--", "true")
    assert done.returncode == 0
    assert asked(console, "/resize")[-1][3]["cpu"] == "M"


def test_a_size_that_cannot_be_had_runs_nothing_and_stops_nothing(console, home, resizing):
    from nightingale_hub.resizing import Phase

    resizing(Phase.TAKEN_BACK, "It keeps cpu S, gpu none, disk S: no capacity left")
    done = run(home, "run", "--cpu", "M", "-y", "--then", "stop", "--", "touch", "made")
    assert done.returncode == 5
    assert "not run: It keeps cpu S, gpu none, disk S: no capacity left" in done.stderr
    assert only_run(home).attempts == []
    assert asked(console, "/stop") == []


def test_what_does_not_exist_ends_as_a_shell_says_it(home):
    assert run(home, "run", "--", "no-such-program").returncode == 127
    assert run(home, "run", "--", "/etc/passwd").returncode == 126


def test_stop_when_done_waits_for_that_very_process(console, home):
    waited = subprocess.Popen(["sleep", "300"])
    try:
        done = run(home, "stop", "-y", "--when-done", str(waited.pid))
        assert done.stdout.startswith(f"stop once process {waited.pid} has ended; undo it: ")
        one = only_run(home)
        who = find_identity(waited.pid)
        assert who is not None and one.process == who.to_dict()
        assert asked(console, "/stop") == []
    finally:
        waited.kill()
        waited.wait()
    assert ended(home).then_outcome == "stopped"


def test_stop_when_done_of_what_does_not_run_is_not_found(home):
    done = run(home, "stop", "-y", "--when-done", "999999999")
    assert (done.returncode, runs.list_runs(home)) == (4, [])


def test_a_stop_that_waits_can_be_undone(console, home):
    run(home, "stop", "-y", "--when-idle")
    one = only_run(home)
    assert "waits for idle" in run(home, "status").stdout
    assert run(home, "run", "--cancel", one.id).stdout == "Cancelled.\n"
    assert ended(home).outcome == "cancelled"
    again = run(home, "run", "--cancel", one.id)
    assert (again.returncode, asked(console, "/stop")) == (5, [])


def test_what_waits_for_idleness_is_no_program_at_work(home):
    run(home, "stop", "-y", "--when-idle")
    pid = only_run(home).runner["pid"]
    assert count_programs(None, [pid]) == 0
    run(home, "run", "-d", "--", "sleep", "300")
    busy = [one.runner["pid"] for one in runs.list_runs(home)]
    assert count_programs(None, busy) == 1


@pytest.mark.parametrize(
    ("use", "idle"),
    [
        ({"busy_kernels": 0, "programs": 0, "gpu_percent": None, "unknown": []}, True),
        ({"busy_kernels": 0, "programs": 0, "gpu_percent": 3.0, "unknown": []}, True),
        ({"busy_kernels": 0, "programs": 0, "gpu_percent": 40.0, "unknown": []}, False),
        ({"busy_kernels": 1, "programs": 0, "gpu_percent": None, "unknown": []}, False),
        ({"busy_kernels": 0, "programs": 1, "gpu_percent": None, "unknown": []}, False),
        ({"busy_kernels": None, "programs": 0, "gpu_percent": None, "unknown": []}, False),
        ({"busy_kernels": 0, "programs": 0, "gpu_percent": None, "unknown": ["gpu: ?"]}, False),
    ],
)
def test_idle_is_what_is_known_to_rest(use, idle):
    assert is_idle(use) is idle


def test_a_server_started_again_goes_on_with_what_waits_for_its_size_alone(home, tmp_path):
    waits = runs.create(home, Work.COMMAND, command=["true"], size={"cpu": "S"})
    cut = runs.create(home, Work.COMMAND, command=["touch", "again"], then="stop")
    cut.state = State.RUNNING
    cut.save()
    other = runs.create(
        {**home, "NIGHTINGALE_INSTANCE_ID": "i-another"}, Work.COMMAND, command=["touch", "other"]
    )
    assert [each.id for each in runs.resume(home)] == [waits.id]
    wait_for(lambda: runs.load(Path(waits.folder)).state == State.ENDED, "it went on")
    assert runs.load(Path(waits.folder)).exit_code == 0
    assert "cut short" in runs.load(Path(cut.folder)).outcome
    # One home may serve several servers: what belongs to another is not this one's to end.
    assert runs.load(Path(other.folder)).state == State.WAITING
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("work", [Work.COMMAND, Work.IDLE])
def test_who_follows_a_run_that_was_cut_short_learns_of_a_failure(home, work):
    cut = runs.create(home, work, command=["true"], then="stop")
    cut.state = State.RUNNING
    cut.save()
    runs.resume(home)
    done = run(home, "run", "--follow", cut.id)
    assert (done.returncode, "cut short" in done.stderr) == (1, True)


def test_who_follows_what_waited_ends_well_once_it_has_followed(console, home):
    waited = subprocess.Popen(["sleep", "300"])
    run(home, "stop", "-y", "--when-done", str(waited.pid))
    waited.kill()
    waited.wait()
    assert run(home, "run", "--follow", only_run(home).id).returncode == 0


@pytest.mark.parametrize("fault", ["the log's folder is gone", "the size cannot be written"])
def test_a_file_that_cannot_be_written_does_not_keep_the_instance(
    console, home, tmp_path, monkeypatch, fault
):
    made = runs.create(home, Work.COMMAND, command=["touch", str(tmp_path / "made")], then="stop")
    if fault == "the log's folder is gone":
        made.log = str(tmp_path / "gone" / "log")
    else:
        made.size = {"cpu": "M"}
    save = Run.save

    def save_or_fail(one):
        if one.size and one.state == State.WAITING:
            raise OSError(28, "No space left on device")
        save(one)

    monkeypatch.setattr(Run, "save", save_or_fail)
    worked(made, home)
    one = only_run(home)
    assert (one.state, one.exit_code, one.then_outcome) == (State.ENDED, 1, "stopped")
    assert one.outcome.startswith("failed: ")
    assert not (tmp_path / "made").exists()
    assert len(asked(console, "/stop")) == 1


def worked(made, env, ends=None):
    """Work on *made* here, as its runner does, but with the signals of this test."""
    work_on = Runner(made, ConsoleClient.from_environment(env), env, ends or QuietEnds())
    work_on.work()
    return made


class QuietEnds(Ends):
    """Leaves the signals of the tests alone."""

    def __init__(self):
        before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
        super().__init__()
        for number, handler in before.items():
            signal.signal(number, handler)


def test_an_older_resize_is_not_taken_for_the_one_that_was_not_asked_for_yet(
    console, home, resizing, monkeypatch
):
    supervisor = resizing()
    client = ConsoleClient.from_environment(home)
    client.post("resize", {"cpu": "M"})  # of before, and done
    made = runs.create(home, Work.COMMAND, command=["true"], size={"cpu": "S"})
    post = client.post

    def post_or_die(path, *given, **query):
        if path == "resize":
            raise SystemExit("killed")
        return post(path, *given, **query)

    monkeypatch.setattr(client, "post", post_or_die)
    with pytest.raises(SystemExit):
        Runner(made, client, home, QuietEnds()).work()
    monkeypatch.undo()
    again = runs.load(Path(made.folder))
    assert again.size_asked_us is not None
    worked(again, home)
    sizes = [each[3]["cpu"] for each in supervisor.asked if each[1].endswith("/resize")]
    assert sizes == ["M", "S"]


def test_a_resize_that_ended_otherwise_is_not_asked_for_again(console, home, resizing):
    from nightingale_hub.resizing import Phase

    supervisor = resizing(Phase.TAKEN_BACK, "It keeps cpu S")
    made = runs.create(home, Work.COMMAND, command=["true"], size={"cpu": "M"})
    made.size_asked_us = 0
    made.save()
    ConsoleClient.from_environment(home).post("resize", {"cpu": "M"})
    worked(made, home)
    assert made.outcome == "not run: It keeps cpu S"
    assert len([each for each in supervisor.asked if each[1].endswith("/resize")]) == 1


def test_an_interrupt_while_the_command_starts_reaches_it(home, monkeypatch):
    made = runs.create(home, Work.COMMAND, command=["sleep", "300"], then="stop")
    ends = QuietEnds()
    start = subprocess.Popen

    def interrupted(*given, **options):
        process = start(*given, **options)
        ends._note(signal.SIGINT, None)
        return process

    monkeypatch.setattr(subprocess, "Popen", interrupted)
    (Path(made.folder) / "cancel").touch()

    def kill():
        if ends.group is not None:
            os.killpg(ends.group, signal.SIGKILL)

    killer = threading.Timer(15, kill)
    killer.start()
    worked(made, home, ends)
    killer.cancel()
    assert (made.exit_code, made.outcome) == (128 + signal.SIGINT, "cancelled")


def test_a_home_that_takes_no_file_starts_nothing(home):
    full = {**home, "HOME": "/dev/full"}
    done = run(full, "run", "--", "true")
    assert done.returncode == 2
    assert "so nothing was started; free some space" in done.stderr


@pytest.mark.parametrize(
    ("text", "then"),
    [
        (None, ("", {})),
        ("stop", ("stop", {})),
        ("resize:S", ("resize", {"cpu": "S", "gpu": "none"})),
        ("resize:gpu=none", ("resize", {"gpu": "none"})),
        ("resize:cpu=M,gpu=S", ("resize", {"cpu": "M", "gpu": "S"})),
    ],
)
def test_then_is_read(text, then):
    assert parse_then(text) == then


@pytest.mark.parametrize(
    "text", ["", "halt", "resize", "resize:", "resize:s", "resize:ram=M", "stop;"]
)
def test_a_then_that_is_none_is_refused(text):
    with pytest.raises(BadInput):
        parse_then(text)


@pytest.mark.parametrize(
    ("exit_code", "tail", "kills", "shortage"),
    [
        (1, b"torch.OutOfMemoryError: CUDA out of memory. Tried", 0, "gpu"),
        (1, b"numpy._core._exceptions._ArrayMemoryError: Unable", 0, "cpu"),
        (137, b"", 1, "cpu"),
        (137, b"", 0, None),  # somebody killed it
        (0, b"caught a MemoryError and went on", 0, None),
        (1, b"ValueError", 5, None),
    ],
)
def test_want_of_memory_is_told_from_other_ends(exit_code, tail, kills, shortage):
    assert find_shortage(exit_code, tail, kills) == shortage


def test_the_next_size_is_the_next_that_can_be_had():
    def size(letter, refusal="", is_current=False):
        return {"resource": "cpu", "size": letter, "refusal": refusal, "is_current": is_current}

    found = [size("S", is_current=True), size("M", refusal="no capacity"), size("L")]
    assert find_next_size(found, "cpu") == "L"
    assert find_next_size(found[:2], "cpu") is None
    assert find_next_size(found, "gpu") is None


@pytest.mark.parametrize("text", ["../../etc", "r-/..", "", "r-"])
def test_a_run_that_is_none_is_refused(home, text):
    with pytest.raises((BadInput, NotFound)):
        runs.get(home, text)
    assert run(home, "run", "--follow", "../x").returncode == 2


def test_a_hub_that_is_down_stops_no_run_without_a_size(false_console, tmp_path):
    false_console.fault = "down"
    env = {**at(false_console), "HOME": str(tmp_path)}
    assert run(env, "run", "--", "true").returncode == 0
    assert run(env, "run", "--cpu", "M", "-y", "--", "true").returncode == 6
