"""Stages of a pipeline that run beside one another, in threads: what takes time lets go of Python's lock."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Aborted(Exception):
    """Raised inside a stage when the one before it failed, so that it finishes nothing."""


class Stage(Generic[T, R]):
    """A consumer in a thread of its own, fed through a queue of at most `depth` items.

    Leaving the `with` block waits for it; then `result` is what it returned. An error of the consumer is raised at the
    next `put` or at the end; an error of the block makes the consumer's iteration raise Aborted.
    """

    def __init__(self, consume: Callable[[Iterator[T]], R], depth: int) -> None:
        self._consume = consume
        self._queue: queue.Queue[tuple[T] | type[Aborted] | None] = queue.Queue(depth)
        self._thread = threading.Thread(target=self._run, name=getattr(consume, "__name__", "stage"))
        self._error: BaseException | None = None
        self._result: list[R] = []
        self._ended = False

    def put(self, item: T) -> None:
        """Hand an item over; waits while the queue is full."""
        if self._error is not None:
            raise self._error
        self._queue.put((item,))

    @property
    def result(self) -> R:
        return self._result[0]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._queue.put(None if error is None else Aborted)
        self._thread.join()
        if error is None and self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            self._result.append(self._consume(self._items()))
        except BaseException as error:
            self._error = error
        while not self._ended:  # nobody shall wait at a full queue
            self._ended = not isinstance(self._queue.get(), tuple)

    def _items(self) -> Iterator[T]:
        while True:
            got = self._queue.get()
            if isinstance(got, tuple):
                yield got[0]
                continue
            self._ended = True
            if got is Aborted:
                raise Aborted
            return


def in_order(pool: ThreadPoolExecutor, call: Callable[[T], R], items: Iterator[T], ahead: int) -> Iterator[R]:
    """The results for all items in their order, at most `ahead` of them made before they are asked for."""
    waiting: deque[Future[R]] = deque()
    for item in items:
        waiting.append(pool.submit(call, item))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def prefetch(items: Iterator[T], depth: int) -> Generator[T, None, None]:
    """The same items, made in a thread of its own up to `depth` ahead.

    Close it before what the items are read from: until then the thread may be reading.
    """
    ahead: queue.Queue[tuple[T] | BaseException | None] = queue.Queue(depth)
    stopped = threading.Event()

    def make() -> None:
        try:
            for item in items:
                ahead.put((item,))
                if stopped.is_set():
                    return
            ahead.put(None)
        except BaseException as error:
            ahead.put(error)

    # A daemon: who leaves it open may end all the same.
    thread = threading.Thread(target=make, name="prefetch", daemon=True)
    thread.start()
    try:
        while (got := ahead.get()) is not None:
            if isinstance(got, BaseException):
                raise got
            yield got[0]
    finally:
        stopped.set()
        while thread.is_alive():
            try:
                ahead.get(timeout=0.01)
            except queue.Empty:
                continue
        thread.join()
