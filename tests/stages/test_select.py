"""`select`: the rows that a selector reads decide which stage may feed it."""

from __future__ import annotations

import json
from pathlib import Path

from itercli.engine.rows import read_rows
from itercli.engine.runs import all_runs
from itercli.records import RankedExample
from tests.conftest import Project
from tests.recipe.test_plan import errors, toy

TOY = Path(__file__).parents[1] / "toy"
PLUGIN = """
from itercli.records import ModelRef, RankedExample, Trajectory
from itercli.registry import register
from itercli.stages.selectors import Selector

@register("selector", "texts")
class Texts(Selector):
    EXAMPLES = RankedExample
    ROWS = Trajectory

    def select(self, groups, *, rng):
        for prompt, texts in groups:
            assert all(type(t) is Trajectory for t in texts)
            yield RankedExample(
                prompt_id=prompt.id, messages=prompt.messages, target=None,
                responses=[t.completion for t in texts], scores=[float(t.tokens) for t in texts],
            )

@register("selector", "models")
class Models(Texts):
    ROWS = ModelRef
"""


def plugins(project: Project) -> list[str]:
    own = project.path / "texts_plugin.py"
    own.write_text(PLUGIN)
    return [str(TOY / "toy_plugin.py"), str(own)]


def test_a_selector_of_trajectories_needs_no_scores(project: Project) -> None:
    project.run_toy(
        f"plugins={json.dumps(plugins(project))}", "iterations=1",
        "loop.build.selector=texts", "loop.build.of=sample",
    )  # fmt: skip
    run = all_runs(project.path / "runs")[0]
    entry = run.entry("iteration-01/build")
    assert entry is not None
    examples = list(read_rows(entry.path / "rows.parquet", RankedExample))
    assert [e.prompt_id for e in examples] == [f"p{i}" for i in range(8)]
    assert all(len(e.responses) == 2 and e.scores == [3.0, 3.0] for e in examples)
    assert all(" at 0" in r for e in examples for r in e.responses)


def test_the_wrong_kind_of_rows_is_refused(project: Project) -> None:
    both = plugins(project)
    found = errors(project, plugins=both, loop__build__selector="texts")["loop.build.of"]
    assert "needs trajectories, but 'score' makes scores" in found
    assert "allowed: sample" in found
    found = errors(project, loop__build__of="sample")["loop.build.of"]
    assert "needs scores, but 'sample' makes trajectories" in found
    found = errors(project, plugins=both, loop__build__selector="models")["loop.build.selector"]
    assert "reads rows of type ModelRef" in found
    nodes = toy(
        project, plugins=both, loop__build={"uses": "select", "of": "sample", "selector": "texts"}
    ).nodes
    assert nodes["iteration-02/build"].inputs["of"] == ["iteration-02/sample"]
