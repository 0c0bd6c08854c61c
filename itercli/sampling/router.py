"""Several policies in one call of `generate`, where each has a decoder or sampler of its own.

They take turns: each runs until one of its completions is done. What a completion becomes
does not depend on the turns, because it does not depend on its neighbours.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping

from itercli.sampling.base import Request, Sampled
from itercli.sampling.policies import policy_of

# `Sampler.generate` of one policy.
Generate = Callable[[Iterable[Request | None], Callable[[], bool]], Iterator[Sampled]]

# Requests read for the others while one policy's next is looked for.
_AHEAD = 256


def route(
    policies: Mapping[str | None, Generate],
    requests: Iterable[Request | None],
    stopping: Callable[[], bool],
) -> Iterator[Sampled]:
    """Hand each request to its policy and yield completions as they finish.

    Args:
        policies: What answers by version; None is the first. With a single one, its own
            stream is returned.

    Raises:
        SamplerError: A request names a version that is not loaded.
    """
    if len(set(policies.values())) == 1:
        return next(iter(policies.values()))(_checked(policies, requests), stopping)
    return _in_turns(_Lanes(policies, requests), stopping)


def _checked(
    policies: Mapping[str | None, Generate], requests: Iterable[Request | None]
) -> Iterator[Request | None]:
    for request in requests:
        if request is not None:
            policy_of(policies, request)
        yield request


def _in_turns(lanes: _Lanes, stopping: Callable[[], bool]) -> Iterator[Sampled]:
    running: dict[Generate, Iterator[Sampled]] = {}
    try:
        while not stopping():
            idle = not running and not any(lanes.waiting.values())
            if idle and not lanes.pull():
                return
            for generate, waiting in lanes.waiting.items():
                if generate not in running:
                    if not waiting:
                        continue
                    running[generate] = generate(lanes.feed(generate), stopping)
                row = next(running[generate], None)
                if row is None:
                    del running[generate]
                    continue
                lanes.asking = True
                yield row
    finally:
        for stream in running.values():
            close = getattr(stream, "close", None)
            if close is not None:
                close()


class _Lanes:
    """The requests of all policies, read once, a queue for each."""

    def __init__(self, policies: Mapping[str | None, Generate], requests: Iterable[Request | None]) -> None:
        self._policies, self._requests = policies, iter(requests)
        self.waiting: dict[Generate, deque[Request]] = {one: deque() for one in policies.values()}
        # False after a None: only a completion, of whatever policy, can bring more.
        self.asking = True

    def pull(self) -> bool:
        """Read one request into its queue; False if there is none just now."""
        if not self.asking or sum(map(len, self.waiting.values())) >= _AHEAD:
            return False
        request = next(self._requests, None)
        if request is None:
            self.asking = False
            return False
        self.waiting[policy_of(self._policies, request)].append(request)
        return True

    def feed(self, generate: Generate) -> Iterator[Request | None]:
        """One policy's requests; None where it has none just now."""
        waiting = self.waiting[generate]
        while True:
            while not waiting and self.pull():
                pass
            yield waiting.popleft() if waiting else None
