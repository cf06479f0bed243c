"""`nightingale notify`, `manifest`, `doctor`, `complete`, and the same from Python."""

import json
import os
import subprocess
import sys
import tempfile
import types
from pathlib import Path

import pytest
from sqlalchemy import delete, insert

import nightingale_hub.instance as nightingale
from nightingale_hub.clock import format_time, now_us
from nightingale_hub.datasets import Dataset, ensure_dataset, grant
from nightingale_hub.errors import BadInput, Conflict
from nightingale_hub.instance import training
from nightingale_hub.instance.cli import build_parser
from nightingale_hub.instance.completion import format_completion, list_words
from nightingale_hub.manifest import measure, save_manifest
from nightingale_hub.tables.incidents import incident, suspension
from tests.test_cli import alice, at, false_console, run

__all__ = ["alice", "false_console"]  # fixtures
MANIFEST = {
    "manifest": {"files": [{"dataset": "dicom", "path": "a", "bytes": 9}]},
    "note": "signed",
}


def list_told(env):
    return training_call(env, "_console().get('notices')")["notices"]


def training_call(env, expression, form=""):
    code = "import json, nightingale_hub.instance.training as t;"
    code += f"print(json.dumps({form}(t.{expression})))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def test_notify_tells_its_person_and_says_where(alice):
    done = run(alice, "notify", "half way", "-", input="epoch 5\n")
    assert (done.returncode, done.stdout) == (0, "Told: Lab and the hub's Notices page.\n")
    told = list_told(alice)[0]
    assert (told["kind"], told["subject"], told["body"]) == ("run", "half way", "epoch 5\n")
    assert json.loads(run(alice, "notify", "it broke", "--error", "--json").stdout)["told"]
    assert list_told(alice)[0]["kind"] == "error"


@pytest.mark.parametrize("subject", ["", " ", "x" * 201])
def test_a_subject_that_is_none_tells_nothing(alice, subject):
    before = len(list_told(alice))
    assert run(alice, "notify", subject).returncode == 2
    assert len(list_told(alice)) == before


def give(console, name, **files):
    """Grant alice a dataset that was measured to hold *files*, by name with their content."""
    with tempfile.TemporaryDirectory() as folder:
        for path, content in files.items():
            Path(folder, path).write_bytes(content)
        Path(os.fsdecode(os.fsencode(folder) + b"/odd\xff\\n")).write_bytes(b"x")
        measured = measure(folder, "seed")
    with console.db.write() as conn:
        ensure_dataset(conn, Dataset(name, "T", "", "", "/data"))
        grant(conn, name, "alice", 1)
        save_manifest(conn, name, measured, 1)


def test_a_loader_goes_by_the_files_of_a_dataset(console, alice):
    give(console, "dicom", one=b"1", two=b"22")
    done = run(alice, "data", "dicom", "--files")
    assert done.stdout.splitlines() == [r"odd\xff\\n", "one", "two"]
    files = json.loads(run(alice, "data", "dicom", "--files", "--json").stdout)["files"]
    assert files[1:] == [{"path": "one", "bytes": 1}, {"path": "two", "bytes": 2}]
    found = training_call({**alice, "NIGHTINGALE_DATASETS": "/m"}, "list_files('dicom')", "repr")
    assert found == repr([Path(f"/m/dicom/{name}") for name in ("odd\udcff\\n", "one", "two")])
    assert run(alice, "data", "--files").returncode == 2


def test_files_are_listed_to_who_may_read_them_once_they_are_counted(console, alice):
    with console.db.write() as conn:
        ensure_dataset(conn, Dataset("dicom", "T", "", "", "/data"))
    refused = run(alice, "data", "dicom", "--files")
    assert (refused.returncode, "is open to you" in refused.stderr) == (4, True)
    with console.db.write() as conn:
        grant(conn, "dicom", "alice", 1)
    early = run(alice, "data", "dicom", "--files")
    assert (early.returncode, "not counted yet" in early.stderr) == (6, True)


def test_data_that_an_alarm_closed_is_said_to_be_with_the_reason(console, alice):
    until_us = now_us() + 3_600_000_000
    facts = {"owner": "alice", "reason": "A file was read that no study uses."}
    with console.db.write() as conn:
        times = {"opened_us": 1, "last_us": 1}
        opened = insert(incident).values(severity="critical", rung="suspend", **times, **facts)
        [key] = conn.execute(opened).inserted_primary_key
        times = {"since_us": 1, "until_us": until_us}
        conn.execute(insert(suspension).values(incident_id=key, **times, **facts))
    try:
        assert f"Data closed   until {format_time(until_us)}: A file" in run(alice, "status").stdout
    finally:
        with console.db.write() as conn:
            conn.execute(delete(suspension))
            conn.execute(delete(incident))
    assert "closed" not in run(alice, "status").stdout


def test_a_manifest_is_written_as_the_log_signed_it(console, alice, tmp_path):
    audit = console.parts["audit"]
    audit.answers["manifests/.*"] = MANIFEST
    done = run(alice, "manifest", "--pid", "7", cwd=tmp_path)
    assert "manifest.json: 1 files, 9 bytes read, signed by the log" in done.stdout
    assert json.loads((tmp_path / "manifest.json").read_text()) == MANIFEST
    asked = audit.asked[-1]
    assert asked[1:3] == (f"manifests/{alice['INSTANCE']}", {"pid": "7"})


def test_a_manifest_of_a_run_is_that_of_its_time(console, alice, tmp_path):
    audit = console.parts["audit"]
    audit.answers["manifests/.*"] = MANIFEST
    env = {**alice, "HOME": str(tmp_path), "NIGHTINGALE_INSTANCE_ID": alice["INSTANCE"]}
    made = json.loads(run(env, "run", "--json", "--", "true").stdout)
    assert run(env, "manifest", "--run", made["id"], "--out", str(tmp_path / "m")).returncode == 0
    query = {name: int(value) for name, value in audit.asked[-1][2].items()}
    [attempt] = made["attempts"]
    assert query == {"since_us": attempt["started_us"], "until_us": attempt["ended_us"] + 1}


def test_a_manifest_of_anothers_instance_does_not_exist(console, alice):
    other = console.launch("bob")
    done = run(alice, "manifest", "--instance", other)
    assert (done.returncode, "no such instance is yours" in done.stderr) == (4, True)


def test_a_manifest_that_cannot_be_written_is_named(console, alice):
    console.parts["audit"].answers["manifests/.*"] = MANIFEST
    done = run(alice, "manifest", "--out", "/no/such/m.json")
    assert (done.returncode, "/no/such/m.json cannot be written" in done.stderr) == (2, True)


def test_the_doctor_says_that_all_is_well(alice, tmp_path):
    done = run({**alice, "HOME": str(tmp_path)}, "doctor")
    assert done.returncode == 0, done.stdout
    assert f"Instance      ok  {alice['INSTANCE']} is running" in done.stdout
    assert " NO " not in done.stdout


def test_the_doctor_names_each_thing_that_is_not_well(console, alice, tmp_path):
    console.parts["billing"].fault = "down"
    status = tmp_path / "status.json"
    status.write_text(json.dumps({"datasets": str(tmp_path / "gone"), "data_refused": None}))
    env = {**alice, "HOME": str(tmp_path), "NIGHTINGALE_STATUS_FILE": str(status)}
    done = run(env, "doctor", "--json")
    bad = [each["says"] for each in json.loads(done.stdout)["findings"] if not each["is_well"]]
    assert done.returncode == 1
    assert bad == [
        "billing does not answer; try again in a moment",
        f"{tmp_path / 'gone'} cannot be read: No such file or directory",
    ]


def test_the_doctor_looks_on_where_the_hub_is_down(false_console, tmp_path):
    false_console.fault = "down"
    done = run({**at(false_console), "HOME": str(tmp_path)}, "doctor")
    assert done.returncode == 1
    assert "it may be down for a moment" in done.stdout and "Home          ok" in done.stdout


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["nightingale", "re"], ["resize"]),
        (["nightingale", "run", "--on"], ["--on-oom"]),
        (["nightingale", "complete", "z"], ["zsh"]),
        (["nightingale", "admin", "gra"], ["grant"]),
    ],
)
def test_bash_completes_what_the_parser_knows(words, completed):
    script = format_completion(build_parser(), "bash")
    line = " ".join(words)
    ask = (
        f'COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _nightingale; echo "${{COMPREPLY[@]}}"'
    )
    done = subprocess.run(["bash", "-c", f"{script}\n{ask}"], capture_output=True, text=True)
    assert (done.stdout.split(), done.stderr) == (completed, "")


def test_completion_asks_no_hub_and_knows_each_command():
    done = run({"PATH": os.environ["PATH"]}, "complete", "zsh")
    assert done.returncode == 0 and "bashcompinit" in done.stdout
    assert {"run", "stop", "doctor"} <= set(list_words(build_parser()))


@pytest.fixture
def here(console, alice, monkeypatch):
    """This process as a program on alice's instance."""
    for name in ("NIGHTINGALE_CONSOLE_URL", "JUPYTERHUB_API_TOKEN"):
        monkeypatch.setenv(name, alice[name])
    console.parts["supervisor"].answers["instances/[^/]+/keep"] = {"keep_until_us": 60}
    monkeypatch.setattr(training, "ASK_PAUSE_S", 0.05)
    return console


def asked(console, name):
    return [each for each in console.parts["supervisor"].asked if each[1].endswith(name)]


def newest(console):
    from nightingale_hub.notices import list_notices

    with console.db.read() as conn:
        return list_notices(conn, "alice")[0]


def test_python_asks_what_the_command_line_asks(here, alice):
    assert nightingale.status()["instance"]["id"] == alice["INSTANCE"]
    assert nightingale.cost()["currency"] == "USD"
    assert {each["resource"] for each in nightingale.sizes()} == {"cpu", "gpu", "disk"}
    assert nightingale.extend("2h") == 60
    with pytest.raises(BadInput, match="is no time"):
        nightingale.extend("soon")


def test_what_is_done_stops_the_instance_and_tells(here):
    with nightingale.stop_when_done():
        assert asked(here, "/stop") == []
    assert len(asked(here, "/stop")) == 1
    assert asked(here, "/keep")[0][3] == {"for_s": 600, "is_lease": True}
    assert newest(here).subject == "Done after 0 s; the instance stops"


def test_what_fails_stops_too_tells_why_and_fails_on(here):
    with pytest.raises(ZeroDivisionError), nightingale.stop_when_done():
        1 / 0  # noqa: B018
    assert len(asked(here, "/stop")) == 1
    told = newest(here)
    assert told.subject == "ZeroDivisionError: division by zero; the instance stops"
    assert "Traceback" in told.body


def test_an_interrupt_stops_nothing(here):
    with pytest.raises(KeyboardInterrupt), nightingale.stop_when_done():
        raise KeyboardInterrupt
    assert asked(here, "/stop") == []


def test_a_function_tells_of_its_error_and_raises_it(here):
    @training.notify_on_error
    def train(epochs: int) -> None:
        raise ValueError(f"no epoch {epochs}")

    with pytest.raises(ValueError, match="no epoch 3"):
        train(3)
    told = newest(here)
    assert (told.kind, told.subject) == ("error", "ValueError: no epoch 3")


def test_a_hub_that_is_away_spoils_no_training(here, monkeypatch):
    monkeypatch.setattr(training, "ASK_WITHIN_S", 0.2)
    here.hub.is_down = True
    with (
        pytest.warns(RuntimeWarning, match="nobody was told"),
        pytest.warns(RuntimeWarning, match="the instance was not stopped"),
        nightingale.stop_when_done(),
    ):
        pass


class Base:
    """What each library's base class is to a callback."""


def install(monkeypatch, name, **values):
    parts = name.split(".")
    for length in range(1, len(parts) + 1):
        module = types.ModuleType(".".join(parts[:length]))
        monkeypatch.setitem(sys.modules, module.__name__, module)
    vars(module).update(values)


def test_a_keras_callback_holds_tells_and_stops(here, monkeypatch):
    install(monkeypatch, "keras", callbacks=types.SimpleNamespace(Callback=Base))
    callback = nightingale.keras_callback(then="stop")
    assert Base in type(callback).__mro__
    callback.on_train_begin()
    assert asked(here, "/stop") == []
    callback.on_train_end()
    assert len(asked(here, "/stop")) == 1


def test_a_lightning_callback_tells_of_the_error(here, monkeypatch):
    install(monkeypatch, "lightning.pytorch.callbacks", Callback=Base)
    callback = nightingale.lightning_callback()
    callback.on_fit_start(types.SimpleNamespace(is_global_zero=True), None)
    callback.on_exception(None, None, ValueError("nan loss"))
    callback.on_fit_end(None, None)
    assert newest(here).subject == "ValueError: nan loss"
    assert asked(here, "/stop") == []


def test_a_transformers_callback_works_in_the_first_process_alone(here, monkeypatch):
    install(monkeypatch, "transformers", TrainerCallback=Base)
    for is_first in (False, True):
        callback = nightingale.transformers_callback(then="stop")
        state = types.SimpleNamespace(is_world_process_zero=is_first)
        callback.on_train_begin(None, state, None)
        callback.on_train_end(None, state, None)
        assert len(asked(here, "/stop")) == is_first


def test_another_then_is_refused_before_anything_is_told(here):
    with pytest.raises(BadInput, match="write 'stop'"):
        training.finish("x", then="halt")


def test_resize_waits_and_says_a_refusal(here):
    here.parts["supervisor"].answers["instances/[^/]+/resize"] = {
        "error": {"code": "conflict", "message": "busy"}
    }
    here.parts["supervisor"].status = 409
    with pytest.raises(Conflict, match="busy"):
        nightingale.resize(cpu="M")
