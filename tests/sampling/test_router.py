"""Routing alone: reading ahead, waiting, stopping; the policies are stand-ins without a model."""

from __future__ import annotations

from dataclasses import replace

import pytest

from itercli.sampling.base import Sampled, SamplerError
from itercli.sampling.router import _AHEAD, route
from tests.sampling.conftest import ask, never


class Fake:
    """Holds up to two requests; answers the older one, and ends when it holds none."""

    def __init__(self, name):
        self.name, self.starts, self.closed = name, 0, 0

    def generate(self, requests, stopping):
        self.starts += 1
        waiting, held = iter(requests), []
        try:
            while not stopping():
                while len(held) < 2 and (request := next(waiting, None)) is not None:
                    held.append(request)
                if not held:
                    return
                yield Sampled(held.pop(0).key, self.name, "stop", 1)
        finally:
            self.closed += 1


@pytest.fixture
def two():
    return Fake("a"), Fake("b")


def lanes(two):
    return {None: two[0].generate, "a@1": two[0].generate, "b@1": two[1].generate}


def req(n, policy=None):
    return replace(ask("p", n), policy=policy)


def test_each_request_reaches_its_policy_once(two):
    requests = [req(n, (None, "b@1", "a@1", "b@1", "b@1")[n % 5]) for n in range(1000)]
    rows = list(route(lanes(two), iter(requests), never))
    assert {r.key[1]: r.text for r in rows} == {n: "b" if n % 5 in (1, 3, 4) else "a" for n in range(1000)}
    assert len(rows) == 1000
    assert [one.starts for one in two] == [1, 1]


def test_one_policys_run_does_not_hold_up_the_other(two):
    """A thousand for `a` come before the first for `b`, but reading ahead has its bound."""
    read = []

    def feed():
        for n in range(1000):
            read.append(n)
            yield req(n, "b@1" if n else "a@1")

    first = next(route(lanes(two), feed(), never))
    assert first.key[1] == 0
    assert len(read) <= _AHEAD + 2
    assert len(list(route(lanes(two), feed(), never))) == 1000


def test_none_until_another_policys_completion(two):
    """A chain that goes back and forth between the policies, each call waiting for the one before."""
    done = []

    def feed():
        while len(done) < 9:
            yield req(len(done), ("a@1", "b@1")[len(done) % 2])
            before = len(done) + 1
            while len(done) < before:
                yield None

    for row in route(lanes(two), feed(), never):
        done.append(row.text)
    assert "".join(done) == "ababababa"


def test_unknown_versions_stopping_and_a_given_up_call(two):
    with pytest.raises(SamplerError, match=r"\('p', 1\): asks c@1, but loaded are a@1, b@1"):
        list(route(lanes(two), [req(0), req(1, "c@1")], never))
    rows = []
    for row in route(lanes(two), (req(n, ("a@1", "b@1")[n % 2]) for n in range(50)), lambda: len(rows) >= 4):
        rows.append(row)
    assert 4 <= len(rows) < 8
    stream = route(lanes(two), (req(n, ("a@1", "b@1")[n % 2]) for n in range(50)), never)
    assert next(stream).text == "a"
    assert next(stream).text == "b"
    stream.close()
    assert [one.closed for one in two] == [one.starts for one in two]


def test_equal_policies_need_no_turns(two):
    alone = {None: two[0].generate, "a@1": two[0].generate}
    assert [r.text for r in route(alone, [req(0), req(1, "a@1")], never)] == ["a", "a"]
    with pytest.raises(SamplerError, match="asks b@1"):
        list(route(alone, [req(0, "b@1")], never))
