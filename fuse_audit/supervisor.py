"""The supervisor of one audit mount: small, root's, and it never looks at what a reader sends.

It makes the mount, greets the kernel, and holds what must outlive a daemon: the device (so that
no reader goes on unseen), the sources, the memory. The daemon is its fork without root's rights;
when it dies the next one starts at once, and whoever was waiting is answered by that one. It
takes the mount away when it is told to end, or when the daemon ends by itself.
"""

import dataclasses
import logging
import os
import select
import signal
import socket
import sys
import time

from nightingale_hub.errors import MountRefused, NightingaleError, Unavailable
from nightingale_hub.fuse_audit import daemon, mountpoint, privileges, protocol
from nightingale_hub.fuse_audit.choice import Trial, choose
from nightingale_hub.fuse_audit.configuration import MountConfiguration
from nightingale_hub.fuse_audit.control import Registrar
from nightingale_hub.fuse_audit.descriptor import Descriptor
from nightingale_hub.fuse_audit.kernel import WORKERS
from nightingale_hub.fuse_audit.memory import Memory
from nightingale_hub.fuse_audit.pipe import Pipe, allow_length
from nightingale_hub.fuse_audit.source import open_sources

_STOPPING = (signal.SIGTERM, signal.SIGINT)
# A daemon that lives and answers nothing for so long is killed, and followed by the next one.
HANGS_S = 10.0
# It reads what was kept before it answers anything.
_READY_WITHIN_S = 60.0
_GREETED_WITHIN_S = 10
_ENDS_WITHIN_S = 10
# One that dies at once would otherwise be forked as fast as that goes.
_LIVES_S = 0.2
_LONGEST_PAUSE_S = 1.0
_REQUEST_BYTES = 1 << 17

_log = logging.getLogger(__name__)


def run(configuration: MountConfiguration) -> int:
    """Serve *configuration* until SIGTERM or SIGINT, and return the exit code.

    Raises what refuses the mount.
    """
    privileges.harden()
    allow_length()
    uid = configuration.daemon_uid if os.geteuid() == 0 else os.geteuid()
    memory = _prepare_spool(configuration.spool, uid)
    sources = open_sources(configuration.datasets)
    mounted = mountpoint.mount(
        configuration.mountpoint,
        allow_other=configuration.allow_other,
        max_read_bytes=protocol.MAX_READ_BYTES,
    )
    try:
        if mounted.how == "mount(2)":
            # The setuid helper, which must unmount for us later, would lose its rights by this.
            privileges.forbid_new_privileges()
        hello = greet(mounted.device)
        number = mountpoint.find_number(configuration.mountpoint)
        trial = Trial(mounted.device, number, sources)
        datasets = choose(configuration.datasets, trial.find_obstacle)
        configuration = dataclasses.replace(configuration, datasets=datasets)
        registrar = Registrar(mounted.device, trial.watch.harvest if trial.watch else None)
        watched = frozenset(trial.watch.watched) if trial.watch else frozenset()
        task = daemon.Task(configuration, mounted.device, sources, memory, time.time_ns(), watched)
        return Supervisor(task, uid, mounted, registrar, can_resend=hello.can_resend).run()
    finally:
        mountpoint.unmount(mounted, configuration.mountpoint)


def greet(device: int) -> protocol.Hello:
    """Answer the kernel's INIT on *device*, and return what it offered; raises `MountRefused`."""
    ready, _, _ = select.select([device], [], [], _GREETED_WITHIN_S)
    if not ready:
        raise MountRefused("the kernel did not greet the mount within 10 s")
    message = memoryview(os.read(device, _REQUEST_BYTES))
    _, opcode, unique, *_ = protocol.HEADER.unpack_from(message)
    hello = protocol.parse_init(message[protocol.HEADER.size :])
    if opcode != protocol.INIT or hello.major != protocol.MAJOR:
        raise MountRefused(f"this kernel speaks FUSE {hello.major}, and not {protocol.MAJOR}")
    payload = protocol.pack_init(hello)
    head = protocol.REPLY.pack(protocol.REPLY.size + len(payload), 0, unique)
    os.write(device, head + payload)
    return hello


class Supervisor:
    """Keeps one daemon serving until it is told to stop."""

    def __init__(
        self,
        task: daemon.Task,
        uid: int,
        mounted: mountpoint.Mounted,
        registrar: Registrar,
        *,
        can_resend: bool,
    ) -> None:
        """Serve *task* as user *uid*; without *can_resend* a dead daemon is the mount's end."""
        self._task = task
        self._uid = uid
        self._mounted = mounted
        self._registrar = registrar
        self._can_resend = can_resend
        self._pid = 0
        self._control: socket.socket
        self._process: Descriptor
        # The daemon ends when this is closed, and at no signal: any of those may be another's.
        self._word: Descriptor | None = None

    def run(self) -> int:
        """Serve until told to stop, and return the exit code."""
        # Blocked before the first fork: whoever takes them asks for them.
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
        self._start()
        code = self._wait_ready()
        if code is not None:
            return code
        daemon.announce(self._task.configuration, self._mounted.how)
        started_s, pause_s = time.monotonic(), 0.0
        while True:
            status = self._wait_end()
            if status is None:
                return self._stop()
            if self._is_gone() or not self._can_resend:
                path = self._task.configuration.mountpoint
                reason = "was taken away" if self._is_gone() else "lost its daemon"
                raise Unavailable(f"the mount at {path} {reason}; start it again")
            lived_s = time.monotonic() - started_s
            pause_s = 0.0 if lived_s > _LIVES_S else min(_LONGEST_PAUSE_S, pause_s + 0.1)
            _log.error(
                "the daemon ended with %d after %.1f s; the next one starts", status, lived_s
            )
            if _is_told_to_stop(pause_s):
                return 0
            started_s = time.monotonic()
            self._start()

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        end, word = (Descriptor(fd) for fd in os.pipe2(os.O_CLOEXEC))
        parent = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            ours.close()
            del word
            os._exit(self._be_daemon(parent, theirs, end.fd))
        theirs.close()
        self._registrar.beat_s = time.monotonic() + _READY_WITHIN_S
        self._control, self._word = ours, word
        self._process = Descriptor(os.pidfd_open(self._pid))

    def _be_daemon(self, parent: int, control: socket.socket, end: int) -> int:
        try:
            # Made while root: anybody else's are too small for the longest read.
            pipes = [Pipe() for _ in range(WORKERS)]
            if self._uid == os.geteuid():
                privileges.finish_daemon(parent)
            else:
                privileges.become_daemon(self._uid, parent)
            daemon.serve(self._task, control, end, pipes)
        except NightingaleError as error:
            print(error, file=sys.stderr, flush=True)
            return error.exit_code
        except Exception:  # noqa: BLE001  # The outermost line of a process: its supervisor must hear.
            _log.exception("the daemon failed")
            return 1
        return 0

    def _wait_ready(self) -> int | None:
        """Return once the first daemon serves; with its exit code when it could not."""
        while not self._registrar.is_ready:
            if not self._answer():
                return self._reap() or 1
        return None

    def _wait_end(self) -> int | None:
        """Return the status of a daemon that ended, or None at a signal to stop."""
        poll = select.poll()
        poll.register(self._process.fd, select.POLLIN)
        poll.register(self._control, select.POLLIN)
        while True:
            if _is_told_to_stop(0):
                return None
            events = poll.poll(100)
            if not events and time.monotonic() > self._registrar.beat_s + HANGS_S:
                _log.error("the daemon answers nothing; it is killed")
                os.kill(self._pid, signal.SIGKILL)
            for fd, _ in events:
                if fd == self._process.fd:
                    return self._reap()
                if not self._answer():
                    poll.unregister(self._control)

    def _answer(self) -> bool:
        """Answer what the daemon asks; False when it is gone."""
        try:
            return self._registrar.answer(self._control)
        except (ConnectionResetError, BrokenPipeError):
            return False

    def _stop(self) -> int:
        self._word = None
        deadline = time.monotonic() + _ENDS_WITHIN_S
        while time.monotonic() < deadline:
            # It may still ask what was read past it.
            ready, _, _ = select.select([self._process.fd, self._control.fileno()], [], [], 0.1)
            if self._process.fd in ready or (ready and not self._answer()):
                return self._reap()
        _log.error("the daemon did not end within %d s", _ENDS_WITHIN_S)
        os.kill(self._pid, signal.SIGKILL)
        return self._reap()

    def _reap(self) -> int:
        _, status = os.waitpid(self._pid, 0)
        self._control.close()
        return os.waitstatus_to_exitcode(status)

    def _is_gone(self) -> bool:
        poll = select.poll()
        poll.register(self._mounted.device, 0)
        return any(events & select.POLLERR for _, events in poll.poll(0))


def _is_told_to_stop(limit_s: float) -> bool:
    """Wait up to *limit_s* for a signal to stop."""
    # Python returns one that it made up when SIGCONT interrupts the wait behind its end.
    # ref: https://github.com/python/cpython/blob/3.11/Modules/signalmodule.c, sigtimedwait
    told = signal.sigtimedwait(_STOPPING, limit_s)
    return told is not None and told.si_signo in _STOPPING


def _prepare_spool(path: str, uid: int) -> Memory:
    """Make the spool at *path* the daemon's, and nobody else's; open the memory in it."""
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        os.chmod(path, 0o700)
        memory = Memory(path)
        if uid != os.geteuid():
            for name in os.listdir(path):
                os.chown(os.path.join(path, name), uid, uid, follow_symlinks=False)
            os.chown(path, uid, uid)
    except OSError as error:
        raise MountRefused(f"spool {path} cannot be used: {error.strerror}") from error
    return memory
