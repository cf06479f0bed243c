"""One process of a Terraform provider, started as Terraform would and shared by many runs.

It speaks the plugin protocol in clear on a socket in a directory that only we may enter.
ref: https://github.com/hashicorp/go-plugin/blob/main/docs/internals.md
"""

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from nightingale_hub.errors import TerraformFailed

STARTS_WITHIN_S = 60.0
ENDS_WITHIN_S = 10.0
# A program and no preexec_fn, with which Python would fork: a forked copy of gRPC's threads' state
# may break before it becomes the provider.
DIES_WITH_PARENT = (
    *(sys.executable, "-I", "-S", "-c"),
    "import ctypes, os, signal, sys\n"
    "ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)\n"  # PR_SET_PDEATHSIG
    "os.execv(sys.argv[1], sys.argv[1:])",
)
# Terraform's own cookie: a provider without it says that it is a plugin, and ends.
COOKIE = {
    "TF_PLUGIN_MAGIC_COOKIE": "d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2",
    "PLUGIN_PROTOCOL_VERSIONS": "5,6",
}


class Provider:
    """A provider's process and where it answers."""

    def __init__(
        self, process: asyncio.subprocess.Process, address: str, protocol_version: int
    ) -> None:
        """Take what `start_provider` started."""
        self.process = process
        self.address = address
        self.protocol_version = protocol_version

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs."""
        return self.process.returncode is None

    async def end(self) -> None:
        """End the process: in order, then by force. What it does for a run is broken off."""
        if self.is_alive:
            self.process.terminate()
        try:
            await asyncio.wait_for(self.process.wait(), ENDS_WITHIN_S)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()


async def start_provider(binary: Path, sockets: Path, environment: Mapping[str, str]) -> Provider:
    """Start *binary* with *environment* alone; raises `TerraformFailed` when it does not answer.

    Its socket lies in *sockets*, whose path must be short: a socket's name has 107 bytes at most.
    """
    with (sockets / "provider.log").open("ab") as log:
        try:
            process = await asyncio.create_subprocess_exec(
                *DIES_WITH_PARENT,
                str(binary),
                env={**environment, **COOKIE, "PLUGIN_UNIX_SOCKET_DIR": str(sockets)},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
        except OSError as error:
            raise TerraformFailed(
                f"the provider {binary.name} cannot be started: {error}"
            ) from error
    assert process.stdout is not None
    try:
        line = await asyncio.wait_for(process.stdout.readline(), STARTS_WITHIN_S)
        # core protocol | provider protocol | network | address | grpc | certificate
        fields = line.decode(errors="replace").strip().split("|")
        if len(fields) < 5 or (fields[0], fields[2], fields[4]) != ("1", "unix", "grpc"):
            raise TerraformFailed(f"the provider {binary.name} said no address but {line[:80]!r}")
        return Provider(process, f"unix:{fields[3]}", int(fields[1]))
    except (TimeoutError, ValueError, TerraformFailed) as error:
        await Provider(process, "", 0).end()
        if isinstance(error, TerraformFailed):
            raise
        raise TerraformFailed(
            f"the provider {binary.name} did not start in {STARTS_WITHIN_S:g} s"
        ) from error


def pick_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what a provider needs of *environment*: credentials, and nothing of Terraform's."""
    passed_on = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    own = {name: value for name, value in environment.items() if not name.startswith("TF_")}
    return passed_on | own
