"""Code and data edited while `iter run` is under way, and put back: the stored verdicts are the scorer's."""

from __future__ import annotations

import json

import pytest

from itercli.engine.rows import read_rows
from itercli.engine.runs import all_runs
from itercli.records import Prompt, Score
from tests.conftest import Project

RECIPE = """\
# @package _global_
name: edits
plugins: [{toy}, own_scorer.py]
iterations: 1
roles: {{policy: {{path: model}}}}
sampler: {{name: toy}}
before:
  tasks: {{uses: prompts, source: {{name: jsonl, path: tasks.jsonl}}}}
loop:
  sample: {{uses: sample, role: policy, prompts: tasks, n: 2}}
  score: {{uses: score, of: sample, scorer: own}}
"""
SCORER = """\
from limits import LIMIT

from itercli.records import Score
from itercli.registry import register
from itercli.verifiers.base import Scorer


class Judge:
    def score(self, prompt, t):
        low = int(t.completion.split()[0]) < LIMIT
        return Score(prompt_id=prompt.id, index=t.index, completion=t.completion, policy=t.policy,
                     value=float(low), passed=low)

    def close(self): ...


@register("scorer", "own")
class Own(Scorer):
    def open(self):
        return Judge()
"""


@pytest.mark.slow
def test_edits_under_way_are_told_and_leave_nothing(project: Project) -> None:
    toy = (project.path / "toy.yaml").read_text().partition("plugins: [")[2].partition("]")[0]
    files = {
        "edits.yaml": RECIPE.format(toy=toy),
        "own_scorer.py": SCORER,
        "limits.py": "LIMIT = 50\n",
        "tasks.jsonl": "".join(json.dumps({"id": f"t{i}", "prompt": f"task {i}"}) + "\n" for i in range(8)),
    }
    for name, text in files.items():
        (project.path / name).write_text(text)
    run = project.start("run", "recipe=edits.yaml", "--plain")
    assert run.stdout is not None
    assert run.stderr is not None
    for line in run.stdout:
        if "stages:" in line:
            break
    (project.path / "limits.py").write_text("LIMIT = 20\n")
    (project.path / "tasks.jsonl").write_text(files["tasks.jsonl"].replace("task", "CHANGED"))
    _, told = run.communicate(timeout=120)
    assert run.returncode == 1
    assert "limits.py, which plug-in own_scorer.py imports, was edited since this run was planned" in told
    assert "Traceback" not in told

    for name, text in files.items():
        (project.path / name).write_text(text)
    project.iter("run", "recipe=edits.yaml", "--plain")
    (found,) = all_runs(project.path / "runs")
    scores = list(read_rows(found.path / "iteration-01/score/rows.parquet", Score))
    assert len(scores) == 16
    assert all(s.passed == (int(s.completion.split()[0]) < 50) for s in scores)
    prompts = read_rows(found.path / "before/tasks/rows.parquet", Prompt)
    assert {p.messages[0].content for p in prompts} == {f"task {i}" for i in range(8)}
