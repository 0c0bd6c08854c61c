"""A recipe that runs programs says how they are shut in, and is refused if that is not as it asks."""

from __future__ import annotations

from pathlib import Path

import pytest

from itercli.engine import sandbox, workers
from itercli.recipe.compose import compose_recipe
from itercli.recipe.errors import RecipeError
from itercli.recipe.plan import Plan, build_plan
from itercli.recipe.sandboxing import sandboxed
from itercli.recipe.schema import check


def plan(*overrides: str) -> Plan:
    return build_plan(check(compose_recipe(overrides).raw, base=Path.cwd()), provisional=True)


@pytest.fixture
def limits_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def probe(wish: str) -> tuple[str, str]:
        if wish in ("auto", "limits"):
            return "limits", "namespaces: forbidden"
        raise sandbox.SandboxError(f"no sandbox of the kind {wish!r} works here")

    monkeypatch.delenv("ITER_SANDBOX", raising=False)
    monkeypatch.setattr(sandbox, "_probe", probe)
    from itercli.verifiers.verilog import Functional

    monkeypatch.setattr(Functional, "fingerprint", lambda self: {})


@pytest.mark.usefixtures("limits_only")
def test_a_run_that_is_not_isolated_says_so_in_its_notes() -> None:
    notes = [n for n in plan("recipe=itertl", "model=tiny-rtl").notes if "not isolated" in n]
    assert len(notes) == 1
    assert "namespaces: forbidden" in notes[0]
    assert not any("isolated" in n for n in plan("recipe=agent_r").notes)  # it runs no programs


@pytest.mark.usefixtures("limits_only")
@pytest.mark.parametrize("wish", ["isolated", "namespaces", "bubblewrap"])
def test_what_the_recipe_asks_for_is_had_or_the_plan_is_refused(wish: str) -> None:
    with pytest.raises(RecipeError) as caught:
        plan("recipe=itertl", "model=tiny-rtl", f"executor.sandbox={wish}")
    assert [p.key for p in caught.value.problems] == ["executor.sandbox"]
    assert plan("recipe=agent_r", f"executor.sandbox={wish}").nodes


def test_a_recipe_cannot_ask_for_less() -> None:
    with pytest.raises(RecipeError, match=r"executor\.sandbox"):
        plan("recipe=agent_r", "executor.sandbox=limits")


def test_the_sandbox_is_no_part_of_a_key() -> None:
    keys = [
        [n.key for n in plan("recipe=agent_r", *more).nodes.values()]
        for more in ((), ("executor.sandbox=isolated",))
    ]
    assert keys[0] == keys[1]


def test_components_inside_others_count() -> None:
    from itercli.papers.itertl import QualityScorer

    assert sandboxed({"scorers": [QualityScorer()]})
    assert not sandboxed({"scorers": ["functional"], "n": 1})


@pytest.mark.parametrize(
    ("own", "wish", "told"),
    [(None, "isolated", "isolated"), ("limits", "auto", "limits"), (None, "auto", "auto")],
)
def test_workers_are_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own: str | None, wish: str, told: str
) -> None:
    monkeypatch.setenv("ITER_SANDBOX", own) if own else monkeypatch.delenv("ITER_SANDBOX", raising=False)
    started = {}
    monkeypatch.setattr(workers.subprocess, "Popen", lambda argv, **options: started.update(options))
    workers.WorkerProcess("score", tmp_path / "log", sandbox=wish)._release()
    assert started["env"]["ITER_SANDBOX"] == told
