"""Questions asked side by side, of which none is waited for longer than all may take."""

import threading
import time
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

Answer = TypeVar("Answer")


class Question(Generic[Answer]):
    """One question being asked, in a thread of its own: a daemon, so that one never answered keeps no process.

    `answer` is there when it was answered, `error` when asking failed; neither while it is `pending`.
    """

    def __init__(self, name: str, ask: Callable[[], Answer]) -> None:
        self._ask = ask
        self.answer: Answer | None = None
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def pending(self) -> bool:
        """Whether there is no answer yet."""
        return self._thread.is_alive()

    def wait(self, seconds: float) -> None:
        """Waits for the answer, so many seconds at most."""
        self._thread.join(seconds)

    def _run(self) -> None:
        try:
            self.answer = self._ask()
        except Exception as error:  # what a failure means is for the one who asked
            self.error = error


def wait_for_all(questions: Iterable[Question[Answer]], seconds: float) -> None:
    """Waits until all are answered, so many seconds at most for all of them together."""
    deadline = time.monotonic() + seconds
    for question in questions:
        question.wait(max(0.0, deadline - time.monotonic()))
