"""What a command says beside its result, and what it asks the person at the terminal."""

import sys

from nightingale_hub.errors import BadInput


def say(text: str) -> None:
    """Print *text* to stderr, at once."""
    print(text, file=sys.stderr, flush=True)


def check_can_ask(what: str) -> None:
    """Raise `BadInput` where nobody can be asked before *what* happens."""
    if not sys.stdin.isatty():
        raise BadInput(f"nobody can be asked here; give -y to {what} without asking")


def is_confirmed(question: str) -> bool:
    """Ask *question* and tell whether the answer is yes."""
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def ask_line(question: str) -> str:
    """Ask *question* and return the line that is typed."""
    print(question, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip()
