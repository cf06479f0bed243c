"""What a notebook or a training program asks of the instance that it runs in.

`from nightingale_hub.instance import stop_when_done, notify_on_error`. Every call speaks as the
server, as the command line does, and raises `NightingaleError` with the reason. A training that
is over is never spoilt by a hub that is away: what a context or a callback asks at its end is
tried for a while, and then said in a warning.
"""

import os
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import ContextDecorator, contextmanager
from pathlib import Path
from typing import Any, TypeVar, overload

from nightingale_hub.clock import format_duration
from nightingale_hub.errors import BadInput, NightingaleError, TooMany, Unavailable
from nightingale_hub.instance.catalogue import list_listing
from nightingale_hub.instance.change import parse_duration, wait_resized
from nightingale_hub.instance.console_client import ConsoleClient
from nightingale_hub.text import parse_name

LEASE_S = 600
LEASE_EVERY_S = 60.0
ASK_WITHIN_S = 600.0
ASK_PAUSE_S = 5.0
MAX_TEXT = 3500

Function = TypeVar("Function", bound=Callable[..., Any])


def status() -> dict[str, Any]:
    """Return the instance, its cost, its use, its audit and its datasets."""
    return _console().get("status")


def cost() -> dict[str, Any]:
    """Return what was charged since the month began, in millionths of its currency."""
    return _console().get("cost")


def sizes() -> list[dict[str, Any]]:
    """Return every size of every resource with its price, in 10⁻⁹ of its currency an hour."""
    return list(_console().get("sizes")["sizes"])


def list_files(dataset: str) -> list[Path]:
    """Return the mounted files of *dataset*, by its manifest; go by it instead of walking.

    What stands in the mount beside them belongs to no study, and to open it is a finding.
    """
    mount = os.fsencode(os.environ.get("NIGHTINGALE_DATASETS", ""))
    if not mount:
        raise BadInput("no dataset is mounted here; see nightingale data")
    return [
        Path(os.fsdecode(os.path.join(mount, dataset.encode(), parse_name(path))))
        for path, _ in list_listing(_console(), dataset)
    ]


def notify(subject: str, body: str = "", error: bool = False) -> None:
    """Tell me *subject* and *body* by the ways that I chose at the hub."""
    kind = "error" if error else "run"
    _console().post("notices", {"subject": subject[:200], "body": body[:4000], "kind": kind})


def extend(duration: str) -> int:
    """Keep the instance from being stopped as idle for `90m`, `2h` or `1d`; return until when."""
    return int(_console().post("extend", for_s=parse_duration(duration))["keep_until_us"])


def stop() -> None:
    """Stop the instance: this program ends within seconds, files stay, the charge ends."""
    _console().post("stop")


def resize(**size: str) -> str:
    """Give the instance another size, `cpu="M"`, `gpu=…`, `disk=…`; return how it ended.

    Waits; costs what `sizes` says. May end this program where a cloud restarts the instance.
    """
    console = _console()
    console.post("resize", dict(size))
    return str(wait_resized(console)["outcome"])


@contextmanager
def keep_alive() -> Iterator[None]:
    """Keep the instance from being stopped as idle within."""
    over = threading.Event()

    def hold() -> None:
        while True:
            try:
                _console().post("extend", for_s=LEASE_S, lease=1)
            except NightingaleError:
                pass  # asked again in a minute; ten minutes are held
            if over.wait(LEASE_EVERY_S):
                return

    holder = threading.Thread(target=hold, name="nightingale-lease", daemon=True)
    holder.start()
    try:
        yield
    finally:
        over.set()


@contextmanager
def stop_when_done() -> Iterator[None]:
    """Keep the instance within; afterwards, also after an error, tell me and stop it.

    Not after an interrupt: whoever interrupts is at work here.
    """
    started_s = time.monotonic()
    try:
        with keep_alive():
            yield
    except Exception as error:
        finish(*describe(error), error=True, then="stop")
        raise
    finish(f"Done after {format_duration(int(time.monotonic() - started_s))}", then="stop")


class Notifier(ContextDecorator):
    """Tells me of an error within, and lets it go on its way."""

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: Any
    ) -> None:
        """Tell of *error*; an interrupt is no news."""
        if isinstance(error, Exception):
            subject, body = describe(error)
            _surely(lambda: notify(subject, body, error=True), "nobody was told")


@overload
def notify_on_error() -> Notifier: ...
@overload
def notify_on_error(function: Function) -> Function: ...
def notify_on_error(function: Callable[..., Any] | None = None) -> Any:
    """Tell me of an error: `@notify_on_error` on a function, or `with notify_on_error():`."""
    return Notifier() if function is None else Notifier()(function)


def finish(subject: str, body: str = "", error: bool = False, then: str = "") -> None:
    """Tell me that a training is over, then do *then*: `stop` or nothing; never raises for a hub.

    Raises `BadInput` for another *then*.
    """
    if then not in ("", "stop"):
        raise BadInput(f"then is {then[:40]!r}; write 'stop' or leave it out")
    said = f"{subject}; the instance stops" if then else subject
    _surely(lambda: notify(said, body, error), "nobody was told")
    if then:
        _surely(stop, "the instance was not stopped")


def _console() -> ConsoleClient:
    return ConsoleClient.from_environment(os.environ)


def describe(error: BaseException) -> tuple[str, str]:
    """Return the subject and the text that tell of *error*: what, and the end of its trace."""
    trace = "".join(traceback.format_exception(error))
    return f"{type(error).__name__}: {error}"[:200], trace[-MAX_TEXT:]


def _surely(ask: Callable[[], None], otherwise: str) -> None:
    deadline = time.monotonic() + ASK_WITHIN_S
    while True:
        try:
            ask()
            return
        except (Unavailable, TooMany) as error:
            if time.monotonic() > deadline:
                warnings.warn(f"{otherwise}: {error}", RuntimeWarning, stacklevel=3)
                return
        except NightingaleError as error:
            warnings.warn(f"{otherwise}: {error}", RuntimeWarning, stacklevel=3)
            return
        time.sleep(ASK_PAUSE_S)
