"""One line per step on stderr, with its seconds; stdout stays free for answers."""

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

_TAIL_LINES = 20


class StepFailed(Exception):
    """A step could not be done; the message says which, why and what to do."""


def say(text: str) -> None:
    """Print *text* as a line of progress."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def step(title: str) -> Iterator[None]:
    """Show *title* while the block runs, and its seconds once it ends well."""
    print(f"{title} … ", end="", file=sys.stderr, flush=True)
    start = time.monotonic()
    try:
        yield
    except BaseException:
        say("failed")
        raise
    say(f"{time.monotonic() - start:.1f} s")


def run(command: Sequence[str], env: Mapping[str, str] | None = None) -> str:
    """Run *command* to its end without input and return what it printed.

    Raises `StepFailed` with the last lines of its output.
    """
    done = subprocess.run(
        command,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    if done.returncode != 0:
        tail = "\n".join(f"    {line}" for line in done.stdout.splitlines()[-_TAIL_LINES:])
        raise StepFailed(f"{command[0]} ended with status {done.returncode}:\n{tail}")
    return done.stdout
