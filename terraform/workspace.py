"""A workspace: one module, one set of values, one state, and every run there ever was of it.

A module for this machine needs only the provider that Terraform has built in, so its workspace
needs no `init` and keeps its state beside it. A cloud's has means: a template that was
initialized once, and a state in the database.
"""

import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nightingale_hub.durable import save_json, save_text
from nightingale_hub.errors import ConfigError, Conflict
from nightingale_hub.terraform.command import Command
from nightingale_hub.terraform.means import Means
from nightingale_hub.terraform.run import Phase, Run

MODULES = Path(__file__).parent / "modules"
ACTIONS = ("apply", "destroy")
ERRORED = "errored.tfstate"
LEFTOVERS_END_WITHIN_S = 30.0


def get_module(cloud: str, kind: str) -> Path:
    """Return the directory of *cloud*'s module *kind*; raises `ConfigError` when there is none."""
    path = MODULES / cloud / kind
    if not (path / "main.tf").is_file():
        raise ConfigError(f"no Terraform module for {kind} on {cloud!r}; see terraform/modules")
    return path


class Workspace:
    """A directory in which one module is applied and destroyed, one run at a time."""

    def __init__(self, directory: Path, module: Path, means: Means | None = None) -> None:
        """Take *directory*, which need not exist yet, for *module*; changes nothing."""
        self.directory = directory
        self.module = module
        self.means = means

    def ensure(self, variables: Mapping[str, Any]) -> None:
        """Put the module and its values in place, readable by this user alone.

        *variables* are typed as the module declares them. They end up in the state: no secrets.
        """
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for source in sorted(self.module.glob("*.tf")):
            save_text(self.directory / source.name, source.read_text())
        save_json(self.directory / "terraform.tfvars.json", dict(variables))
        if self.means is not None:
            self.means.template.link_into(self.directory)

    async def start(self, action: str, environment: Mapping[str, str] | None = None) -> Run:
        """Start *action*, `apply` or `destroy`, and return its run; costs money.

        *environment* is added to the little that a run gets of ours. Raises `Conflict` while an
        earlier run is not over, `TerraformFailed` when the launcher does not start.
        """
        assert action in ACTIONS, action
        last = self.find_run()
        if last is not None:
            await self._ensure_over(last)
        directory = self._create_run(action)
        listed = dict(environment or {})
        if self.means is not None:
            listed |= await self.means.provide(directory)
            self._write_preparations(action, directory)
        elif action == "destroy" and not (self.directory / "main.tf").exists():
            return _record_nothing_to_do(directory)
        save_json(directory / "environment.json", listed)
        run = Run(directory, Command(self.directory, _write_launcher(directory)).start(action))
        await run.wait_started()
        return run

    def find_run(self) -> Run | None:
        """Return the newest run, going on or over, whoever started it; None before the first."""
        runs = self._list_runs()
        return Run(runs[-1]) if runs else None

    def list_outputs(self) -> dict[str, object]:
        """Return the module's outputs by name; empty unless the newest run was an apply."""
        run = self.find_run()
        return run.list_outputs() if run is not None and run.action == "apply" else {}

    def empty(self) -> None:
        """Remove all but its runs: another module follows, and no run is counted twice."""
        for path in self.directory.glob("*"):
            if path.name == "runs":
                continue
            path.unlink() if path.is_symlink() or not path.is_dir() else shutil.rmtree(path)

    def remove(self) -> None:
        """Remove the workspace with its state; only for one whose instance is gone."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def _write_preparations(self, action: str, run: Path) -> None:
        """Write down what the launcher does before the action itself."""
        errored = self.directory / ERRORED
        save_json(
            run / "before.json",
            {
                # What Terraform could not hand to the backend at its last end.
                "push": str(errored) if errored.exists() else None,
                "is_guarded": action == "apply" and self.module.name == "home",
            },
        )

    async def _ensure_over(self, run: Run) -> None:
        if run.look() is Phase.RUNNING:
            raise Conflict(f"terraform {run.action} still runs in {self.directory}; wait for it")
        if run.look() is Phase.UNKNOWN and not await run.end_leftovers(LEFTOVERS_END_WITHIN_S):
            raise Conflict(f"a killed terraform {run.action} of {self.directory} is not gone yet")
        # Terraform's own lock died with it; what it wrote about the holder would only mislead.
        (self.directory / ".terraform.tfstate.lock.info").unlink(missing_ok=True)

    def _create_run(self, action: str) -> Path:
        runs = self._list_runs()
        number = int(runs[-1].name.partition("-")[0]) + 1 if runs else 1
        directory = self.directory / "runs" / f"{number:06d}-{action}"
        for each in (self.directory, directory.parent, directory):
            each.mkdir(mode=0o700, parents=True, exist_ok=each != directory)
        return directory

    def _list_runs(self) -> list[Path]:
        runs = self.directory / "runs"
        return sorted(runs.iterdir()) if runs.is_dir() else []


def _write_launcher(run: Path) -> Path:
    """Write the executable that python-terraform is given: our launcher, bound to this run."""
    path = run / "launcher"
    command = [sys.executable, "-P", "-m", "nightingale_hub.terraform.launcher", str(run)]
    save_text(path, f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n', 0o700)
    return path


def _record_nothing_to_do(run: Path) -> Run:
    """Record that nothing was ever made here: destroying it has succeeded."""
    save_text(run / "pid.json", "{}")
    save_json(run / "status.json", {"exit_status": os.EX_OK})
    return Run(run)
