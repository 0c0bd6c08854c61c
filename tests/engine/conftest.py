"""The kinds of sandbox that work on this machine, one after the other."""

from __future__ import annotations

import pytest

from itercli.engine import sandbox


@pytest.fixture(params=["limits", "namespaces", "bubblewrap"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> sandbox.Isolation:
    monkeypatch.delenv("ITER_SANDBOX", raising=False)
    try:
        return sandbox.isolation(request.param)
    except sandbox.SandboxError as error:
        pytest.skip(str(error))
