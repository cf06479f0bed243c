"""Starts an instance's agent so that it belongs to nobody, and is on record before it runs.

As root the agent is the first process of a pid and a mount namespace of its own: whatever it
starts ends with it, in the kernel, and what it mounts is seen by nobody else. Elsewhere a keeper
stays above it, to which everything that the agent leaves behind falls, and which ends it.
ref: https://man7.org/linux/man-pages/man7/pid_namespaces.7.html
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nightingale_hub.durable import find_json, save_json
from nightingale_hub.errors import Unavailable
from nightingale_hub.instance.kernel import (
    mount_proc,
    refuse_new_privileges,
    unshare_namespaces,
)
from nightingale_hub.processes import (
    Identity,
    become_subreaper,
    end_all,
    find_identity,
    list_descendants,
    parse_identity,
)

_GO, _OK = b"g", b"k"


@dataclass(frozen=True)
class Pids:
    """The processes that `agent.pid` names: everything else is below one of them."""

    agent: Identity
    keeper: Identity | None  # None where the agent has its own pid namespace

    def save(self, directory: Path) -> None:
        """Write them to *directory*, durably."""
        keeper = self.keeper.to_dict() if self.keeper else None
        save_json(directory / "agent.pid", {**self.agent.to_dict(), "keeper": keeper})


def find_pids(directory: Path) -> Pids | None:
    """Return who was started in *directory*, dead or alive; None before the first start."""
    data = find_json(directory / "agent.pid")
    if data is None:
        return None
    keeper = data["keeper"]
    return Pids(parse_identity(data), parse_identity(keeper) if keeper else None)


def detach(directory: Path, environment: dict[str, str]) -> None:
    """Start the agent of *directory*; returns once its pid file is on disk and it may run.

    Raises `Unavailable` when it cannot be started; then nothing runs.
    """
    if os.geteuid() == 0 and _start_apart(directory, environment, is_isolated=True):
        return
    if not _start_apart(directory, environment, is_isolated=False):
        raise Unavailable(f"the agent of {directory} could not be started; see agent.log there")


def _start_apart(directory: Path, environment: dict[str, str], is_isolated: bool) -> bool:
    """Start the agent below a process that is no child of ours; return whether it runs."""
    report, reported = os.pipe()
    middle = os.fork()
    if middle == 0:
        os.close(report)
        _in_child(lambda: _middle(directory, environment, is_isolated, reported), directory)
    os.close(reported)
    answer = _read_to_end(report)
    if is_isolated or answer != _OK:
        os.waitpid(middle, 0)
    return answer == _OK


def _middle(directory: Path, environment: dict[str, str], is_isolated: bool, reported: int) -> None:
    os.setsid()
    if is_isolated:
        unshare_namespaces()
    else:
        become_subreaper()
    go, start = os.pipe()
    ready, is_ready = os.pipe()
    agent = os.fork()
    if agent == 0:
        os.close(start)
        _in_child(
            lambda: _become_agent(directory, environment, is_isolated, go, is_ready), directory
        )
    os.close(is_ready)
    # Named before it mounts its own /proc over the one that both see.
    identity = find_identity(agent)
    keeper = None if is_isolated else find_identity(os.getpid())
    os.write(start, _GO)
    if identity is None or os.read(ready, 1) != _OK:
        os.waitpid(agent, 0)
        return
    # On record before it is let go: if we die here, it ends too.
    Pids(identity, keeper).save(directory)
    os.write(start, _GO)
    os.write(reported, _OK)
    if not is_isolated:
        _close_everything()
        _keep(agent)


def _become_agent(
    directory: Path, environment: dict[str, str], is_isolated: bool, go: int, is_ready: int
) -> None:
    if os.read(go, 1) != _GO:
        return
    os.setsid()
    if is_isolated:
        mount_proc()
    if os.geteuid() == 0:
        refuse_new_privileges()
    os.write(is_ready, _OK)
    if os.read(go, 1) != _GO:
        return
    _redirect(directory / "agent.log")
    _close_everything(first=3)
    os.umask(0o077)
    os.chdir("/")
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a new size, before the agent listens for it
    command = [sys.executable, "-P", "-m", "nightingale_hub.instance.agent"]
    command += ["--isolated"] if is_isolated else []
    os.execve(sys.executable, command, environment)  # noqa: S606 - becomes the agent, no shell


def _keep(agent: int) -> None:
    """Wait for the agent to end, then end all that it left."""
    while os.wait()[0] != agent:
        pass
    while left := list_descendants(os.getpid()):
        end_all(left, 1)
        _reap()
        time.sleep(0.01)


def _in_child(work: Callable[[], None], directory: Path) -> None:
    """Run *work* in a forked child and leave without returning, whatever happens."""
    status = 1
    try:
        work()
        status = 0
    except BaseException as error:  # noqa: BLE001 - a forked child must never run its parent's code
        with (directory / "agent.log").open("a") as log:
            log.write(json.dumps({"detach": str(error)}) + "\n")
    finally:
        os._exit(status)


def _redirect(log: Path) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for source, target in ((nothing, 0), (out, 1), (out, 2)):
        os.dup2(source, target)


def _close_everything(first: int = 0) -> None:
    """Close every descriptor: Terraform waits until nobody holds the pipes of its provisioner."""
    if first == 0:
        nothing = os.open(os.devnull, os.O_RDWR)
        for target in (0, 1, 2):
            os.dup2(nothing, target)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))


def _read_to_end(descriptor: int) -> bytes:
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
