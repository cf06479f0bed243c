"""The command line as a user types it: a real process, a real console, a hub that fails."""

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from nightingale_hub.agreements import accept
from nightingale_hub.clock import now_us
from nightingale_hub.datasets import Dataset, ensure_dataset, grant
from nightingale_hub.errors import (
    BadInput,
    Conflict,
    NightingaleError,
    NotAllowed,
    NotFound,
    TooMany,
    Unavailable,
)
from nightingale_hub.instance.cli import build_parser, parse_since
from nightingale_hub.instance.console_client import ERRORS
from nightingale_hub.instance.report import _list_dataset_facts
from tests.console import stop
from tests.standins import Part, Servers

PROGRAM = str(Path(sys.executable).with_name("nightingale"))
DOCS = Path(__file__).parent.parent / "docs" / "cli.md"


@pytest.fixture
def false_console() -> Iterator[Part]:
    """A server where the console should be, which does as it is told."""
    servers = Servers()
    yield Part(servers, "/services/console/api/")
    servers.close()


def environment(url: str, token: str, **more: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "COLUMNS": "80",
        "NIGHTINGALE_CONSOLE_URL": f"{url}api/",
        "JUPYTERHUB_API_TOKEN": token,
        **more,
    }


def run(env: dict[str, str], *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [PROGRAM, *arguments]
    return subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=60, check=False, **options
    )


def at(part: Part) -> dict[str, str]:
    return environment(f"http://127.0.0.1:{part.port}/services/console/", "t")


@pytest.fixture
def alice(console) -> dict[str, str]:
    """The environment of a server of alice's that runs and has cost something."""
    instance_id = console.launch("alice")
    console.charge(instance_id)
    return environment(console.url, console.server_token("alice"), INSTANCE=instance_id)


def test_status_shows_the_instance_its_exact_cost_its_audit_and_its_datasets(
    console, alice, tmp_path
):
    with console.db.write() as conn:
        ensure_dataset(conn, Dataset("dicom", "CT images", "Scans", "Be kind", "/data/dicom"))
        grant(conn, "dicom", "alice", 1)
        accept(conn, "dicom", "alice", 1, 1)
    status_file = tmp_path / "status.json"
    status_file.write_text(
        json.dumps(
            {
                "isolation": ["network: nothing stops data from leaving"],
                "datasets": "/home/alice/datasets",
                "mounted": ["dicom"],
                "data_refused": None,
            }
        )
    )
    alice["NIGHTINGALE_STATUS_FILE"] = str(status_file)

    done = run(alice, "status")

    assert (done.returncode, done.stderr) == (0, "")
    lines = dict(re.split(r" {2,}", line, maxsplit=1) for line in done.stdout.splitlines())
    assert lines["Instance"] == f"{alice['INSTANCE']} on local here"
    assert lines["Size"] == "cpu S, gpu none, disk S"
    assert lines["State"].startswith("running since 20")
    assert lines["Rate"] == "$0.041/h"
    assert lines["Cost so far"] == "$0.001139 for 100 s (1 min 40 s)"
    assert lines["This month"] == "$2.001139"
    assert lines["Audit"] == (
        "15 records stored, 3 not searchable yet: 3 files, 7 reads, 9,000 bytes"
    )
    assert lines["Datasets"].startswith("mounted read-only in /home/alice/datasets;")
    assert lines["Granted"] == "dicom: CT images"
    assert lines["Not isolated"] == "network: nothing stops data from leaving"
    assert ("GET", f"streams/{alice['INSTANCE']}:b1", {}, {}) in console.parts["audit"].asked


def test_a_time_under_a_minute_is_said_once(console, alice):
    console.charge(alice["INSTANCE"], seconds=20, amount=228)
    assert re.search(r"^Cost so far +\$0\.000228 for 20 s$", run(alice, "status").stdout, re.M)


@pytest.mark.parametrize(
    ("local", "says"),
    [
        ({"datasets": "/d", "mounted": ["mr"]}, "; mounted at the next start"),
        ({"datasets": None, "mounted": []}, "; mounted at the next start"),
        ({"datasets": "/d", "mounted": ["dicom"]}, ""),
        ({"datasets": "/d"}, ""),  # an agent that does not say
        ({"datasets": None, "mounted": [], "data_refused": "no /dev/fuse here"}, ""),
        (None, ""),
    ],
)
def test_what_was_granted_while_the_server_runs_is_mounted_at_its_next_start(local, says):
    facts = _list_dataset_facts([{"name": "dicom", "title": "CT images"}], local)
    assert facts[-1] == ("Granted", f"dicom: CT images{says}")


def test_status_says_why_there_is_no_data(alice, tmp_path):
    status_file = tmp_path / "status.json"
    status_file.write_text('{"data_refused": "no /dev/fuse here", "datasets": null}')
    done = run({**alice, "NIGHTINGALE_STATUS_FILE": str(status_file)}, "status")
    assert "none is mounted: no /dev/fuse here" in done.stdout


def test_a_broken_status_file_is_named_and_the_rest_is_shown(alice, tmp_path):
    status_file = tmp_path / "status.json"
    status_file.write_text("{")
    done = run({**alice, "NIGHTINGALE_STATUS_FILE": str(status_file)}, "status")
    assert done.returncode == 0
    assert f"cannot be read from {status_file}" in done.stdout
    assert "$0.001139" in done.stdout


def test_json_has_the_same_keys_with_and_without_an_instance(console, alice):
    here = json.loads(run(alice, "status", "--json").stdout)
    nobody = environment(console.url, console.server_token("bob"))
    nothing = json.loads(run(nobody, "status", "--json").stdout)
    keys = "instance use month_micro currency left audit datasets closed missing local runs"
    assert set(here) == set(nothing) == set(keys.split())
    assert here["instance"]["amount_micro"] == 1139
    assert nothing["instance"] is None
    assert "none runs" in run(nobody, "status").stdout


def test_status_without_billing_says_so_and_invents_no_figure(console, alice):
    console.parts["billing"].fault = "down"
    done = run(alice, "status")
    assert done.returncode == 0
    assert re.search(r"Cost so far +unknown for now", done.stdout)
    assert re.search(r"Missing +billing does not answer; try again in a moment", done.stdout)


def test_cost_adds_up_what_is_posted_and_what_runs(console, alice):
    line = {
        "line_id": 7,
        "instance_id": "i-old",
        "server_name": "",
        "size": "cpu S, gpu none, disk S",
        "start_us": now_us() - 2_000_000_000,
        "end_us": now_us() - 1_000_000_000,
        "seconds": 1000,
        "nano_per_hour": 41_000_000,
        "amount_micro": 11_389,
    }
    console.parts["billing"].answers["statement"] = {"lines": [line]}
    done = run(alice, "cost", "--since", "1h")
    assert re.search(r"^Posted +\$0.011389$", done.stdout, re.M)
    assert re.search(r"^Running +\$0.001139$", done.stdout, re.M)
    assert done.stdout.splitlines()[-1] == "Total    $0.012528"
    cost = json.loads(run(alice, "cost", "--since", "1h", "--json").stdout)
    assert cost["total_micro"] == sum(each["amount_micro"] for each in cost["lines"])
    # The line ended before the last ten minutes began.
    recent = json.loads(run(alice, "cost", "--since", "10m", "--json").stdout)
    assert recent["posted_micro"] == 0


def test_cost_without_billing_is_an_error_never_a_part_of_the_sum(console, alice):
    console.parts["billing"].fault = "broken"
    done = run(alice, "cost")
    assert (done.returncode, done.stdout) == (6, "")
    assert "billing has a fault" in done.stderr
    assert "secret" not in done.stderr


def test_sizes_mark_your_own_and_say_why_one_cannot_be_had(console, alice):
    with console.db.write() as conn:
        conn.exec_driver_sql(
            "INSERT INTO price (cloud, region, sku, nano_per_hour, effective_us, source) "
            "VALUES ('local', 'here', 'cpu.S', 20000000, 0, 'test')"
        )
    done = run(alice, "sizes")
    assert re.search(r"^cpu +S +1 CPU +\$0.02/h +yours$", done.stdout, re.M)
    assert re.search(r"^gpu +S +1 GPU +- +the local cloud has no GPU", done.stdout, re.M)


def test_stop_without_a_terminal_wants_yes_and_stops_nothing(console, alice):
    done = run(alice, "stop", stdin=subprocess.DEVNULL)
    assert done.returncode == 2
    assert "give -y" in done.stderr
    assert console.parts["supervisor"].asked == []


def test_stop_with_yes_stops_and_tells_when_the_charge_ended(console, alice):
    console.charge(alice["INSTANCE"], seconds=101, amount=1150)
    console.parts["billing"].answers["cost"]["instances"][0]["state"] = "posted"
    done = run(alice, "stop", "-y")
    assert done.returncode == 0
    assert f"Stop of {alice['INSTANCE']} accepted at 20" in done.stdout
    assert done.stdout.splitlines()[-1] == "Final cost: $0.00115 for 101 s (1 min 41 s)."
    (method, path, _, body) = console.parts["supervisor"].asked[0]
    assert (method, path) == ("POST", f"instances/{alice['INSTANCE']}/stop")
    assert body == {"reason": "alice asked for it by token"}


def test_stop_of_what_is_gone_succeeds_and_says_so(console, alice):
    with console.db.write() as conn:
        stop(conn, alice["INSTANCE"], "done", now_us())
    done = run(alice, "stop", "-y")
    assert done.returncode == 0
    assert "is gone since" in done.stdout
    assert console.parts["supervisor"].asked == []


def test_stop_where_nothing_ever_ran_is_not_found(console):
    nobody = environment(console.url, console.server_token("bob"))
    done = run(nobody, "stop", "-y", "--json")
    assert done.returncode == 4
    assert json.loads(done.stdout)["error"]["code"] == "not_found"


def in_terminal(env: dict[str, str], answer: bytes, *arguments: str) -> tuple[int, str]:
    """Run the program in a pty, type *answer* at its question, and return code and output."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(PROGRAM, [PROGRAM, *arguments], env)
    output = b""
    is_answered = False
    deadline = time.monotonic() + 30
    try:
        while time.monotonic() < deadline:
            if select.select([terminal], [], [], 0.2)[0]:
                try:
                    output += os.read(terminal, 4096)
                except OSError:
                    break  # the program ended
            if not is_answered and b"[y/N]" in output:
                os.write(terminal, answer)
                is_answered = True
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), output.decode()
    finally:
        os.close(terminal)


def test_in_a_terminal_stop_shows_the_cost_and_no_keeps_the_instance(console, alice):
    code, output = in_terminal(alice, b"n\n", "stop")
    assert code == 0
    assert "$0.001139 for 100 s" in output
    assert "ends its kernels and terminals at once" in output
    assert "Nothing was stopped." in output
    assert console.parts["supervisor"].asked == []


def test_in_a_terminal_yes_stops_the_instance(console, alice):
    console.charge(alice["INSTANCE"])
    console.parts["billing"].answers["cost"]["instances"][0]["state"] = "posted"
    code, output = in_terminal(alice, b"y\n", "stop")
    assert code == 0
    assert "accepted at" in output
    assert len(console.parts["supervisor"].asked) == 1


def test_ctrl_c_at_the_question_stops_nothing(console, alice):
    code, output = in_terminal(alice, b"\x03", "stop")
    assert code == 130
    assert "Interrupted." in output
    assert "Traceback" not in output
    assert console.parts["supervisor"].asked == []


def test_what_others_wrote_cannot_drive_the_terminal(console, tmp_path):
    instance_id = console.launch("alice")
    evil = "\x1b]0;owned\x07\x1b[2J\u202egnp.exe\r\nfake"
    with console.db.write() as conn:
        ensure_dataset(conn, Dataset("dicom", evil, "", "", "/data"))
        grant(conn, "dicom", "*", 1)
        stop(conn, instance_id, evil, now_us())
    env = environment(console.url, console.server_token("alice"))
    for arguments in (["status"], ["status", "--json"], ["stop", "-y"]):
        done = run(env, *arguments)
        assert not set(done.stdout + done.stderr) & {"\x1b", "\x07", "\r", "\u202e"}
    assert r"\x1b[2J\u202egnp.exe\r\nfake" in run(env, "status").stdout


def test_an_error_that_the_hub_words_cannot_drive_the_terminal(false_console):
    false_console.answers["status"] = {"error": {"code": "not_allowed", "message": "\x1b[31mno"}}
    false_console.status = 403
    done = run(at(false_console), "status")
    assert done.returncode == 3
    assert done.stderr == "nightingale: \\x1b[31mno\n"


def test_a_locale_without_the_letters_is_no_failure(console, alice):
    with console.db.write() as conn:
        ensure_dataset(conn, Dataset("dicom", "Röntgen 写真", "", "", "/data"))
        grant(conn, "dicom", "*", 1)
    done = run({**alice, "PYTHONIOENCODING": "ascii"}, "status")
    assert done.returncode == 0
    assert r"R\xf6ntgen" in done.stdout


@pytest.mark.parametrize("missing", ["NIGHTINGALE_CONSOLE_URL", "JUPYTERHUB_API_TOKEN"])
def test_outside_an_instance_it_says_so(missing):
    env = environment("http://127.0.0.1:1/", "t")
    del env[missing]
    done = run(env, "status")
    assert done.returncode == 2
    assert done.stderr.startswith(f"nightingale: this is not an instance ({missing} not set)")


def test_an_address_that_is_none_is_named():
    done = run({**environment("", "t"), "NIGHTINGALE_CONSOLE_URL": "file:///etc/passwd"}, "status")
    assert done.returncode == 2
    assert "'file:///etc/passwd/', which is no http or https address" in done.stderr


@pytest.mark.parametrize("token", ["a\nb", "é", "a\tb"])
def test_a_token_that_can_be_none_is_refused_without_being_shown(token):
    done = run(environment("http://127.0.0.1:1/", token), "status")
    assert done.returncode == 2
    assert done.stderr == (
        "nightingale: JUPYTERHUB_API_TOKEN holds a character that no token has; set it again\n"
    )


def test_a_hub_that_is_down_is_told_from_an_instance_in_trouble():
    with closed_port() as port:
        done = run(environment(f"http://127.0.0.1:{port}/services/console/", "t"), "cost")
    assert done.returncode == 6
    assert done.stderr == (
        f"nightingale: the hub at 127.0.0.1:{port} does not answer; it may be down for a moment. "
        "Your instance goes on without it\n"
    )


@contextmanager
def closed_port() -> Iterator[int]:
    """A port that nobody else can take and nobody listens on."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def test_a_console_that_is_down_is_told_from_a_hub_that_is(console, alice):
    console.hub.routes["console"], port = 1, console.hub.routes["console"]
    try:
        done = run(alice, "status")
    finally:
        console.hub.routes["console"] = port
    assert done.returncode == 6
    assert "the hub answers, but its console does not (503)" in done.stderr


def test_a_hub_that_cannot_say_whose_the_token_is_counts_as_down(console, alice):
    console.hub.is_down = True
    done = run(alice, "status")
    assert done.returncode == 6
    assert "the hub does not answer" in done.stderr


def test_a_token_that_ended_is_refused_at_once(console, alice):
    assert run(alice, "status").returncode == 0
    del console.hub.models[alice["JUPYTERHUB_API_TOKEN"]]
    done = run(alice, "status")
    assert done.returncode == 3
    assert "the hub does not know this token" in done.stderr


def test_a_slow_hub_is_waited_for_no_longer_than_asked(false_console):
    false_console.fault = "slow"
    started = time.monotonic()
    done = run(at(false_console), "status", "--timeout", "0.5")
    assert time.monotonic() - started < 5
    assert done.returncode == 6
    assert "did not answer within 0.5 s" in done.stderr


def test_a_hub_that_drips_its_answer_is_waited_for_no_longer_than_asked():
    with dripping_server() as port:
        env = environment(f"http://127.0.0.1:{port}/", "t")
        started = time.monotonic()
        done = run(env, "status", "--timeout", "1")
        assert time.monotonic() - started < 5
    assert done.returncode == 6
    assert "did not answer within 1 s" in done.stderr


@contextmanager
def dripping_server() -> Iterator[int]:
    """A server that begins an answer and sends a byte of it every 0.2 s."""
    code = (
        "import socket, sys, time\n"
        "server = socket.create_server(('127.0.0.1', 0))\n"
        "print(server.getsockname()[1], flush=True)\n"
        "client, _ = server.accept()\n"
        "client.recv(65536)\n"
        "client.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 1000\\r\\n\\r\\n')\n"
        "for _ in range(150):\n"
        "    client.sendall(b' ')\n"
        "    time.sleep(0.2)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize("fault", ["nonsense", "broken", "down"])
def test_an_answer_that_is_none_is_an_error_without_a_trace(false_console, fault):
    false_console.answers["status"] = {}
    false_console.fault = fault
    done = run(at(false_console), "status")
    assert done.returncode == 6
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_an_answer_of_another_version_names_what_it_lacks(false_console):
    false_console.answers["status"] = {"instance": None}
    done = run(at(false_console), "status")
    assert done.returncode == 6
    assert "lacks month_micro, audit, datasets, missing" in done.stderr


def test_a_redirect_does_not_carry_the_token_elsewhere(console, false_console):
    elsewhere = console.parts["billing"]
    false_console.location = f"http://127.0.0.1:{elsewhere.port}/services/billing/api/cost"
    done = run(at(false_console), "status")
    assert done.returncode == 6
    assert "its console does not (302)" in done.stderr
    assert elsewhere.asked == []


def test_the_environments_proxy_never_sees_the_token(console, alice):
    with closed_port() as port:
        env = {**alice, "http_proxy": f"http://127.0.0.1:{port}", "no_proxy": ""}
        assert run(env, "status").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["fly"], "invalid choice: 'fly'"),
        (["status", "--wings"], "unrecognized arguments: --wings"),
        (["status", "--timeout", "nan"], "must be a number of seconds"),
        (["cost", "--since", "yesterday"], "'yesterday' is no time"),
        (["cost", "--since", "2999-01-01"], "is not in the past"),
    ],
)
def test_a_wrong_command_line_is_explained_and_json_stays_json(alice, arguments, message):
    done = run(alice, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    answered = run(alice, *arguments, "--json")
    assert answered.returncode == 2
    assert answered.stderr == ""
    assert json.loads(answered.stdout)["error"]["code"] == "bad_input"


def test_a_reader_that_leaves_early_gets_no_trace(alice):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [PROGRAM, "sizes"], env=alice, stdout=write, stderr=subprocess.PIPE, timeout=60, check=False
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


def test_output_that_cannot_be_written_is_said_without_a_trace(alice):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [PROGRAM, "sizes"], env=alice, stdout=full, stderr=subprocess.PIPE, timeout=60
        )
    said = b"nightingale: the output cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, said)


def test_ctrl_c_while_waiting_ends_without_a_trace(false_console):
    false_console.fault = "slow"
    process = subprocess.Popen(
        [PROGRAM, "status"], env=at(false_console), stderr=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + 20
        while not false_console.asked and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (process.returncode, errors) == (130, "Interrupted.\n")


def test_since_is_a_date_a_time_or_so_long_ago():
    noon = 1_795_478_400_000_000  # 2026-11-24 00:00:00 UTC
    assert parse_since("90m", noon) == noon - 5_400_000_000
    assert parse_since("7d", noon) == noon - 7 * 86_400_000_000
    assert parse_since("2026-11-23", noon) == noon - 86_400_000_000
    assert parse_since("2026-11-23T12:00+02:00", noon) == noon - 14 * 3_600_000_000
    with pytest.raises(BadInput):
        parse_since("999999d", noon)


def test_it_runs_without_jupyterhub_tornado_or_a_database():
    code = (
        "import sys, nightingale_hub.instance.cli\n"
        "heavy = {'jupyterhub', 'tornado', 'sqlalchemy', 'httpx', 'traitlets'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_docs_hold_the_help_of_every_command_and_every_exit_code():
    docs = DOCS.read_text()
    commands = [[], *([name] for name in command_names())]
    for command in commands:
        shown = run({"PATH": os.environ["PATH"], "COLUMNS": "80"}, *command, "--help")
        assert shown.returncode == 0
        assert (
            f"```text\n$ {' '.join(['nightingale', *command, '--help'])}\n{shown.stdout}```" in docs
        )
    codes = {0, 1, 130, 141} | {
        each.exit_code for each in NightingaleError.__subclasses__() if 2 <= each.exit_code <= 6
    }
    for code in codes:
        assert f"| {code} |" in docs, f"exit code {code} is not in docs/cli.md"


def command_names() -> list[str]:
    actions = build_parser()._subparsers._group_actions  # type: ignore[union-attr]  # it has some
    return list(actions[0].choices)  # type: ignore[arg-type]  # names of the commands


def test_version_is_the_distributions():
    done = run({"PATH": os.environ["PATH"]}, "--version")
    assert re.fullmatch(r"nightingale \d+\.\d+\.\d+\S*\n", done.stdout)


def test_each_refusal_keeps_its_name_and_exit_code():
    taken = {BadInput, NotAllowed, NotFound, Conflict, TooMany, Unavailable}
    taken |= {each for kind in (BadInput, NotAllowed) for each in kind.__subclasses__()}
    own_to_batches = {"bad_seal"}
    assert {each.code: each for each in taken if each.code not in own_to_batches} == ERRORS
