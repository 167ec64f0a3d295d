"""Several threads for work that lets go of the interpreter: array arithmetic, decoding, compression."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from treino import environment

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(function: Callable[[Item], Result], items: Iterable[Item], most: int | None = None) -> Iterator[Result]:
    """The results in the order of the items, worked out by as many threads as there are processors, or `most`.

    No more than one item over their number is under way or waits to be taken, so that memory stays bounded.
    """
    threads = min(environment.processors(), most or environment.processors())
    waiting: deque[Future[Any]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
