"""The demo as its user runs it: a receipt that agrees, a Ctrl-C that leaves nothing."""

import json
import os
import pwd
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from nightingale_hub.demo.cleanup import list_leftovers, remove
from nightingale_hub.demo.kernel import Kernel
from nightingale_hub.demo.receipt import Receipt, format_receipt
from nightingale_hub.errors import ConfigError
from nightingale_hub.instance.account import ensure_account
from nightingale_hub.instance.room import ISOLATED_HOME
from nightingale_hub.ports import find_free_ports
from nightingale_hub.system_users import name_system_user
from tests.client import Client

ROOT = Path(__file__).parent.parent
DEMO = [sys.executable, "-m", "nightingale_hub.demo"]


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory(prefix="nightingale-demo-") as name:
        path = Path(name)
        path.chmod(0o711)
        yield path
        assert list_leftovers(path) == []


def run_demo(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*DEMO, *arguments], capture_output=True, text=True, cwd=ROOT, timeout=200, check=False
    )


def test_the_visit_prints_a_receipt_that_agrees_and_leaves_nothing(folder):
    port = str(find_free_ports(1)[0])
    done = run_demo("--smoke", "--json", "--state", str(folder), "--port", port)
    assert done.returncode == 0, done.stderr
    receipt = json.loads(done.stdout)
    assert receipt["passed"] is True
    assert receipt["files"] > 190 and receipt["bytes_read"] > 2_000_000
    assert receipt["seconds"] >= 1 and receipt["nano_usd_per_hour"] == 21_000_000
    assert any("terraform_data" in step for step in receipt["terraform_steps"])
    assert list(folder.iterdir()) == []


@contextmanager
def started(folder, command=()):
    # Tests run beside each other: the default port would be looked at by two and taken by one.
    is_first = not (folder / "demo" / "demo.json").exists()
    port = ["--port", str(find_free_ports(1)[0])] if is_first else []
    process = subprocess.Popen(
        [*command, *DEMO, "--state", str(folder / "demo"), *port],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
    )
    timer = threading.Timer(120, process.kill)
    timer.start()
    try:
        yield process
    finally:
        timer.cancel()
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait(100)
        assert process.stdout is not None
        process.stdout.close()
        run_demo("--remove", "--state", str(folder / "demo"))


def read_until(process, pattern: str) -> "re.Match[str]":
    said = ""
    for line in process.stdout:
        said += line
        if match := re.search(pattern, said):
            return match
    raise AssertionError(said)


def test_a_demo_from_its_start_to_its_end(folder):
    orphan = ["sleep", "200"]
    marked = {**os.environ, "NIGHTINGALE_DEMO_STATE": str(folder / "demo")}
    with subprocess.Popen(orphan, env=marked) as before, started(folder) as process:
        match = read_until(process, r"runs at (\S+:(\d+))\S*[\s\S]*password  (\S+)\n[\s\S]*Ctrl-C")
        assert match[1].startswith("http://127.0.0.1:")
        assert before.wait(5) == -signal.SIGKILL  # what an earlier hub left
        second = run_demo("--state", str(folder / "demo"))
        assert second.returncode == 5
        assert "a demo already runs" in second.stderr
        other = run_demo("--state", str(folder / "other"), "--port", match[2])
        assert other.returncode == 5
        assert f"port {match[2]} is taken" in other.stderr
        assert list_leftovers(folder) != []
        with subprocess.Popen(orphan, env=marked) as after:
            process.send_signal(signal.SIGINT)
            assert process.wait(100) == 0
            assert after.wait(5) == -signal.SIGKILL
        # Whoever waits for the removal is not in its way.
        removal = [*DEMO, "--remove", "--state", folder / "demo"]
        done = subprocess.run(
            ["sh", "-c", '"$@"; exit $?', "sh", *removal],
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert not (folder / "demo").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--port", "99999"], 2, "must be a whole number from 1 to 65535"),
        (["--port", "-1"], 2, "must be a whole number from 1 to 65535"),
        (["--db", "mysql://x/y"], ConfigError.exit_code, "db_url"),
        (["--db", "sqlite:////nonexistent/x"], 6, "sqlite:////nonexistent/x cannot be used"),
        (["--db", "postgresql://u:geheim@127.0.0.1:1/x"], 6, "Connection refused"),
        (["--state", "/dev/null"], 1, "bin/demo: /dev/null: File exists"),
        (["--state", "/proc/x"], 1, "bin/demo: /proc/x: No such file or directory"),
    ],
)
def test_what_cannot_work_is_said_in_a_line_and_leaves_nothing(folder, arguments, code, said):
    done = run_demo("--state", str(folder / "demo"), *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr and "geheim" not in done.stderr


def test_it_can_be_stopped_where_a_shell_put_it_in_the_background(folder):
    command = ["sh", "-c", 'trap "" INT; exec "$@"', "sh"]
    with started(folder, command) as process:
        read_until(process, r"starting the hub")
        process.send_signal(signal.SIGINT)
        assert process.wait(100) == 130


def test_a_demo_that_was_killed_finds_its_instance_again_and_the_instance_its_hub(folder):
    with started(folder) as process:
        read_until(process, "Ctrl-C")
        made = json.loads((folder / "demo" / "demo.json").read_text())
        client = log_in(made)
        assert client.start().status_code in (201, 202)
        client.wait_ready()
        client.close()
        process.kill()
        process.wait()
    with started(folder) as process:
        read_until(process, "Ctrl-C")
        again = json.loads((folder / "demo" / "demo.json").read_text())
        assert again == made
        client = log_in(again)
        client.wait_ready()
        kernel = Kernel(f"{made['url']}/user/ada/", client.token)
        status = json.loads(kernel.run("!nightingale status --json"))
        assert status["instance"]["state"] == "running"
        kernel.close()
        client.close()
        # What a terminal sends when it is closed ends the demo in order, too, instance and all.
        process.send_signal(signal.SIGHUP)
        assert process.wait(100) == 0
    assert list_leftovers(folder) == []


def log_in(made) -> Client:
    client = Client(f"{made['url']}/", made["users"][0], made["user_password"])
    client.log_in()
    return client


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has system users to remove")
def test_its_system_users_go_with_it(folder):
    key = secrets.token_bytes(32)
    (folder / "demo" / "homes" / "0123456789abcdef").mkdir(parents=True)
    (folder / "demo" / "secret.key").write_text(key.hex())
    name = name_system_user(key, "0123456789abcdef")
    ensure_account(name, ISOLATED_HOME)
    remove(folder / "demo")
    with pytest.raises(KeyError):
        pwd.getpwnam(name)


def test_a_directory_is_meant_from_where_one_stands(folder):
    done = subprocess.run(
        [ROOT / "bin" / "demo", "--remove", "--state", "here"],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=100,
    )
    assert done.returncode == 4
    assert f"no demo in {folder / 'here'};" in done.stderr


def test_there_is_nothing_to_remove_where_no_demo_was(folder):
    done = run_demo("--remove", "--state", str(folder / "none"))
    assert done.returncode == 4
    assert "no demo" in done.stderr
    assert not (folder / "none").exists()


def test_a_receipt_fails_with_one_figure_that_disagrees():
    receipt = Receipt()
    assert not receipt.passed  # nothing was checked
    receipt.check("one", 1, 1)
    assert receipt.passed
    receipt.check("other", 1, 2)
    assert not receipt.passed
    text = format_receipt(receipt, as_json=False)
    assert "FAIL  other" in text and "got 1, expected 2" in text and text.endswith("FAILED")
    assert json.loads(format_receipt(receipt, as_json=True))["checks"][1]["passed"] is False


def test_what_is_left_of_a_demo_is_named(folder):
    with subprocess.Popen(
        ["sleep", "60"], cwd=folder, env={**os.environ, "WHERE": str(folder)}
    ) as process:
        assert any(f"process {process.pid} (sleep 60)" in each for each in list_leftovers(folder))
        process.kill()
