"""The process that a Terraform run lives under: `python -m … <run directory> <arguments>`.

It leaves its caller's session, reads the run's environment from a file, sends everything said to
the journal, and writes the exit status only when Terraform and all that it started are gone. So
a status on disk means that nothing of the run is left, and whoever asked may die at any time.
It knows nothing of clouds, and nothing of what Terraform is asked.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

from nightingale_hub.durable import create_text, find_json, save_json
from nightingale_hub.processes import (
    Identity,
    become_subreaper,
    end_all,
    find_identity,
    list_session,
)
from nightingale_hub.terraform.guard import find_refusal, format_error

# A provisioner that lost its Terraform ends by itself well within this (`local down` waits 20 s).
LEFTOVERS_END_WITHIN_S = 30.0
PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR")
RUN_MARK = "NIGHTINGALE_TERRAFORM_RUN"


class Launcher:
    """One run, from its start to the status on disk."""

    def __init__(self, directory: Path, arguments: list[str]) -> None:
        """Take what is to run; starts nothing yet."""
        self.directory = directory
        self.arguments = arguments
        self._terraform: subprocess.Popen[bytes] | None = None
        self._is_cancelled = False

    def run(self) -> None:
        """Run Terraform to its end and write down how it ended."""
        signal.signal(signal.SIGINT, self._cancel)
        signal.signal(signal.SIGTERM, self._cancel)
        os.setsid()
        os.umask(0o077)  # the state is plain text
        become_subreaper()
        self._redirect()
        identity = find_identity(os.getpid())
        assert identity is not None
        if not create_text(self.directory / "pid.json", json.dumps(identity.to_dict())):
            return  # revoked by a successor that could not know whether we would start
        exit_status = self._run_terraform()
        self._end_leftovers()
        save_json(self.directory / "status.json", {"exit_status": exit_status})

    def _redirect(self) -> None:
        journal = os.open(
            self.directory / "journal.ndjson", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600
        )
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((nothing, 0), (journal, 1), (journal, 2)):
            os.dup2(source, target)
        os.close(journal)
        os.close(nothing)

    def _run_terraform(self) -> int:
        environment = self._take_environment()
        before = find_json(self.directory / "before.json") or {}
        if before.get("push"):
            status = self._run_one(["state", "push", before["push"]], environment)
            if status != 0:
                return status
            Path(before["push"]).unlink()
        if before.get("is_guarded"):
            return self._run_guarded(environment)
        return self._run_one(self.arguments, environment)

    def _run_guarded(self, environment: dict[str, str]) -> int:
        """Plan, look whether a home would go, and only then do what was planned."""
        plan, shown = self.directory / "plan", self.directory / "plan.json"
        options = [each for each in self.arguments[1:] if not each.startswith("-auto-approve")]
        status = self._run_one(["plan", *options, f"-out={plan}"], environment)
        if status == 0:
            status = self._run_one(["show", "-json", str(plan)], environment, shown)
        if status == 0:
            refusal = find_refusal(json.loads(shown.read_text()))
            if refusal is not None:
                print(format_error(refusal), flush=True)
                status = os.EX_NOPERM
        if status == 0:
            status = self._run_one([*self.arguments, str(plan)], environment)
        for path in (plan, shown):
            path.unlink(missing_ok=True)
        return status

    def _run_one(
        self, arguments: list[str], environment: dict[str, str], output: Path | None = None
    ) -> int:
        if self._is_cancelled:
            return 128 + signal.SIGINT
        command = [*find_terraform(environment.get("PATH")), *arguments]
        with (output or Path(os.devnull)).open("wb") as file:
            self._terraform = subprocess.Popen(
                command, env=environment, stdout=file if output else None
            )
        if self._is_cancelled:  # it came between the check and the start
            self._terraform.send_signal(signal.SIGINT)
        status = self._terraform.wait()
        return 128 - status if status < 0 else status

    def _take_environment(self) -> dict[str, str]:
        """Return the run's environment and remove its file: it may hold a cloud's credential."""
        path = self.directory / "environment.json"
        listed: dict[str, str] = json.loads(path.read_text())
        path.unlink()
        passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        ours = {
            "CHECKPOINT_DISABLE": "1",  # no call home for new versions
            "TF_CLI_CONFIG_FILE": os.devnull,  # nor what the caller's own ~/.terraformrc says
            "TF_IN_AUTOMATION": "1",
            RUN_MARK: str(self.directory),
        }
        return passed_on | ours | listed

    def _cancel(self, _number: int, _frame: FrameType | None) -> None:
        # Passed on once: Terraform takes a second interrupt as an order to drop everything.
        if not self._is_cancelled and self._terraform is not None:
            self._terraform.send_signal(signal.SIGINT)
        self._is_cancelled = True

    def _end_leftovers(self) -> None:
        """Wait for what a killed Terraform left in this session, then end it."""
        deadline = time.monotonic() + LEFTOVERS_END_WITHIN_S
        while self._list_leftovers() and time.monotonic() < deadline:
            time.sleep(0.05)
        end_all(self._list_leftovers(), 5)

    def _list_leftovers(self) -> list[Identity]:
        _reap()
        return [each for each in list_session(os.getpid()) if each.pid != os.getpid()]


def find_terraform(path: str | None) -> list[str]:
    """Return the command that runs Terraform: `terraform` or `tofu` on *path*, or the bundled."""
    for name in ("terraform", "tofu"):
        found = shutil.which(name, path=path)
        if found is not None:
            return [found]
    return [sys.executable, "-P", "-m", "nightingale_hub.terraform.bundled"]


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


if __name__ == "__main__":
    Launcher(Path(sys.argv[1]), sys.argv[2:]).run()
