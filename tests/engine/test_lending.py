"""Rows of unchanged prompts are copied from earlier artifacts, and the copy is what computing gives."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from itercli.engine.files import sha256
from itercli.engine.runs import all_runs
from itercli.engine.store import ROWS, Entry
from tests.conftest import Project

LOOP = """
  sample: {uses: sample, role: policy, prompts: tasks, n: 2}
  score: {uses: score, of: sample, scorer: toy}
"""


def write(project: Project, numbers: Iterable[int], **changes: Any) -> None:
    rows = [{"id": f"p{n}", "prompt": f"task {n}"} | changes for n in numbers]
    (project.path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def run(project: Project, *overrides: str, check: bool = True) -> tuple[Entry, Entry]:
    """Run the loop on own.jsonl; gives its samples and scores."""
    path = project.path / "toy.yaml"
    text = path.read_text()
    if "headline" in text:  # once: sampling and scoring alone
        head = text.partition("before:")[0].replace("headline: evaluate.pass@1\n", "")
        source = "{uses: prompts, source: {name: jsonl, path: own.jsonl}}"
        path.write_text(f"{head}before: {{tasks: {source}}}\nloop: {LOOP}\n")
    project.run_toy("iterations=1", *overrides, check=check)
    newest = all_runs(project.path / "runs")[0]
    found = [newest.entry(f"iteration-01/{name}") for name in ("sample", "score")]
    assert found[0] is not None
    assert found[1] is not None
    return found[0], found[1]


def borrowed(entry: Entry) -> int:
    manifest = entry.sealed()
    assert manifest is not None
    return sum(manifest["work"].get("borrowed_rows", {}).values())


def fresh(project: Project) -> list[str]:
    """Hashes of samples and scores, computed in an empty store."""
    (project.path / "runs").rename(project.path / "before")
    try:
        entries = run(project)
        assert [borrowed(e) for e in entries] == [0, 0]
        return [sha256(e.path / ROWS) for e in entries]
    finally:
        (project.path / "runs").rename(project.path / "fresh")
        (project.path / "before").rename(project.path / "runs")


def test_of_a_thousand_prompts_without_one_none_is_sampled_again(project: Project) -> None:
    write(project, range(1000))
    first = [entry.key for entry in run(project)]
    write(project, (n for n in range(1000) if n != 500))
    plan = project.iter("plan", "recipe=toy.yaml", "iterations=1", "--json").stdout
    reasons = {stage["node"]: stage["reason"] for stage in json.loads(plan)["stages"]}
    for name, key in zip(("sample", "score"), first, strict=True):
        assert f"takes rows of 999 of 999 prompts from {key[:8]}" in reasons[f"iteration-01/{name}"]
    entries = run(project)
    assert [borrowed(e) for e in entries] == [1998, 1998]
    assert [sha256(e.path / ROWS) for e in entries] == fresh(project)


def test_only_what_changed_is_made_again(project: Project) -> None:
    write(project, range(20))
    run(project)
    rows = (project.path / "own.jsonl").read_text().splitlines()
    rows[3] = json.dumps({"id": "p3", "prompt": "another task"})
    rows[4] = json.dumps({"id": "p4", "prompt": "task 4", "bench": "new"})  # the model isn't shown it
    (project.path / "own.jsonl").write_text("\n".join([*reversed(rows), '{"id": "new", "prompt": "n"}']))
    entries = run(project)
    assert [borrowed(e) for e in entries] == [38, 36]
    # More completions of each prompt: those that are there are taken, too.
    assert [borrowed(e) for e in run(project, "loop.sample.n=3")] == [42, 42]
    # Another temperature is another distribution.
    assert [borrowed(e) for e in run(project, "loop.sample.temperature=0.5")] == [0, 0]


def test_rows_of_an_attempt_that_failed_are_taken(project: Project) -> None:
    write(project, range(6))
    run(project, "sampler={name: toy, fault: raise, at: 8}", check=False)
    write(project, range(5))
    sample, _ = run(project)
    assert borrowed(sample) == 8


def test_damaged_artifacts_lend_nothing(project: Project) -> None:
    write(project, range(6))
    samples, _ = run(project)
    raw = bytearray((samples.path / ROWS).read_bytes())
    raw[len(raw) // 2] ^= 1
    (samples.path / ROWS).write_bytes(bytes(raw))
    write(project, range(5))
    sample, _ = run(project)
    assert borrowed(sample) == 0
