"""A question that may hang, asked aside: its caller waits a moment and goes on without an answer.

While one hangs no other is asked: each then is without an answer at once.
"""

import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


class Aside(Generic[Asked, Answer]):
    """One thread that asks one kind of question."""

    def __init__(self, look: Callable[[Asked], Answer]) -> None:
        """Ask by *look*, which raises nothing; the thread starts at the first question."""
        self._look = look
        self._questions: queue.SimpleQueue[tuple[Asked, queue.SimpleQueue[Answer]]] = (
            queue.SimpleQueue()
        )
        self._free = threading.Lock()
        self._unanswered: queue.SimpleQueue[Answer] | None = None
        self._thread: threading.Thread | None = None

    def ask(self, about: Asked, within_s: float) -> Answer | None:
        """Return the answer about *about*, or None when there is none within *within_s*."""
        if not self._free.acquire(timeout=within_s):
            return None
        try:
            if self._unanswered is not None and self._unanswered.empty():
                return None
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, daemon=True)
                self._thread.start()
            answer: queue.SimpleQueue[Answer] = queue.SimpleQueue()
            self._unanswered = answer
            self._questions.put((about, answer))
            try:
                found = answer.get(timeout=within_s)
            except queue.Empty:
                return None
            self._unanswered = None
            return found
        finally:
            self._free.release()

    def _run(self) -> None:
        while True:
            about, answer = self._questions.get()
            answer.put(self._look(about))
