"""python-terraform, narrowed to the one call of it that works with today's Terraform.

Its `apply()`, `plan()` and `destroy()` send options that Terraform has dropped; `cmd()` sends
what it is told.
"""

import subprocess
from pathlib import Path
from typing import Any

from python_terraform import IsFlagged, Terraform

_children: list["subprocess.Popen[bytes]"] = []


class Command(Terraform):  # type: ignore[misc]  # python-terraform ships no types
    """A Terraform whose command is a launcher of ours, in one workspace."""

    def __init__(self, workspace: Path, launcher: Path) -> None:
        """Run *launcher* in *workspace*; starts nothing yet."""
        super().__init__(working_dir=str(workspace), terraform_bin_path=str(launcher))

    def read_state_file(self, file_path: str | None = None) -> None:
        """Read nothing: the state is Terraform's own, and another run may be writing it."""

    def generate_cmd_string(self, cmd: str, *args: str, **kwargs: Any) -> list[str]:
        """Return the command line without `-synchronous`, which Terraform does not know."""
        kwargs.pop("synchronous", None)
        return list(super().generate_cmd_string(cmd, *args, **kwargs))

    def start(self, action: str) -> "subprocess.Popen[bytes]":
        """Start *action* (`apply` or `destroy`) and return its process without waiting."""
        process, _, _ = self.cmd(
            action,
            json=IsFlagged,
            input=False,
            auto_approve=IsFlagged,
            # Not our terminal: another's reader could end, and the next write would kill the run.
            capture_output=True,
            synchronous=False,
        )
        # The launcher writes to its journal alone.
        process.stdout.close()
        process.stderr.close()
        assert isinstance(process, subprocess.Popen)
        # A run may outlive everyone who knows it; its launcher is still ours to reap.
        _children[:] = [child for child in _children if child.poll() is None]
        _children.append(process)
        return process
