"""Files of ours with bytes flipped, cut out and put in: no traceback, and no wrong number shown as right."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from itercli.cli.main import main
from itercli.engine import checked
from itercli.engine.checked import unseal, write_document
from itercli.engine.files import write_json
from itercli.engine.journal import RowJournal
from itercli.engine.runs import Run
from itercli.engine.status import statuses
from itercli.engine.store import JOURNAL, META, ORIGIN
from itercli.recipe.compose import compose_recipe
from itercli.recipe.plan import Plan, build_plan
from itercli.recipe.schema import check
from itercli.records import Score
from itercli.training.step_log import StepLog
from tests.conftest import Project, make_project

LOOKS = {
    "show": ["show", "whole", "--json"],
    "runs": ["runs", "--json"],
    "samples": ["samples", "whole", "--json", "--limit", "3"],
    "compare": ["compare", "whole", "twin", "--json"],
    "clean": ["clean", "--dry-run", "--json"],
    "show half": ["show", "half", "--json"],
    "samples half": ["samples", "half", "--json"],
}
# What depends on the moment, and sums over what could be read: the note on standard error marks those.
UNSTEADY = re.compile(r"age|updated|seconds|size|path|cost|lineage|message|note|reason|items|time|paired")
ODD = (b"\xff", b"\n12\n", b"\n[]\n", b"\0" * 64, b"[" * 100_000, b"\n" + b"9" * 10_000 + b"\n", b"\xc3")


@dataclass(frozen=True)
class Made:
    """A folder with a finished run, another one of the same stages, and one that was cut off."""

    project: Project
    plan: Plan
    files: list[Path]

    @property
    def runs(self) -> Path:
        return self.project.path / "runs"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    project = make_project(tmp_path_factory.mktemp("damage"))
    project.run_toy("iterations=1", "--name", "whole")
    runs = project.path / "runs"
    for name in ("twin", "half"):
        shutil.copytree(runs / "whole", runs / name, symlinks=True)
    half = Run(runs / "half")
    info = half.info
    for node, place in info["nodes"].items():
        if node in ("iteration-01/score", "iteration-01/train"):
            place["key"] = f"cut{place['kind']}"
    half.save({**info, "state": "interrupted"})
    score, train = (half.entry(f"iteration-01/{name}") for name in ("score", "train"))
    assert score is not None
    assert train is not None
    for entry in (score, train):
        entry.path.mkdir(parents=True)
        entry.continue_from({"inputs": {}})
    journal = RowJournal(score.path / JOURNAL, Score)
    for i in range(4):
        row = Score(
            prompt_id=f"p{i}", index=0, completion=str(i), policy="", value=i, passed=i > 1, outcome="x"
        )
        journal.append(row)
    journal.close()
    write_document(score.path / META, {"total": 16})
    log = StepLog(train.path)
    for step in (1, 2, 3):
        log.add(step, {"loss": 1 / step})
    composed = compose_recipe([f"recipe={project.path / 'toy.yaml'}", "iterations=1"])
    plan = build_plan(check(composed.raw, base=project.path))
    skipped = re.compile(r"\.lock|\.log$|/model/weights/|\.html")
    files = sorted(p for p in runs.rglob("*") if p.is_file() and not skipped.search(p.as_posix()))
    ours = [p for p in files if not any(q.is_symlink() for q in p.parents)]
    return Made(project, plan, ours)


def look(made: Made, name: str, capsys: pytest.CaptureFixture[str]) -> Any:
    """The JSON of a command; None where it said that it can't."""
    code = main([*LOOKS[name], "--runs", str(made.runs)])
    said = capsys.readouterr()
    if code:
        assert said.err.startswith(("error: ", "note: ")), said.err
        return None
    return json.loads(said.out)


def numbers(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """All numbers of a JSON value, by their places; those of lists of named things by name.

    What is marked as damaged has none.
    """
    if isinstance(value, dict):
        if value.get("state") == "damaged":
            return
        path += f"[{value.get('node', '')}]"
        for key, item in value.items():
            if not UNSTEADY.search(key):
                yield from numbers(item, f"{path}.{key}")
    elif isinstance(value, list):
        for n, item in enumerate(value):
            name = n
            if isinstance(item, dict):
                name = item.get("node") or item.get("name") or (item.get("prompt_id"), item.get("index"), n)
            yield from numbers(item, f"{path}.{name}")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, value


def mutations(data: bytes, rng: random.Random) -> Iterator[bytes]:
    """Flips, cuts, insertions and odd ends."""
    at, length = rng.randrange(len(data)), rng.randrange(1, 200)
    digits = [n for n, byte in enumerate(data) if byte in b"0123456789"]
    yield data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
    yield data[:at] + data[at + length :]
    yield data[:at] + rng.randbytes(length % 9 + 1) + data[at:]
    yield data[:at] + rng.choice(ODD) + data[at:]
    yield data[:at]
    if digits:
        at = rng.choice(digits)
        yield data[:at] + b"%d" % ((data[at] - 47) % 10) + data[at + 1 :]


def damages(made: Made, seed: int) -> Iterator[Path]:
    """Each file of the folder damaged in turn, and put right again."""
    rng = random.Random(seed)
    for path in made.files:
        data = path.read_bytes()
        try:
            for new in mutations(data, rng):
                if new != data:
                    path.write_bytes(new)
                    checked._told.clear()
                    yield path
        finally:
            path.write_bytes(data)


def wrong(shown: Any, right: Any) -> list[str]:
    known = dict(numbers(right))
    return [f"{p}: {v} instead of {known[p]}" for p, v in numbers(shown) if p in known and known[p] != v]


@pytest.mark.parametrize("name", LOOKS)
def test_looks_at_damaged_records(made: Made, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    right = look(made, name, capsys)
    assert right is not None
    refused = seen = 0
    for path in damages(made, seed=len(name)):
        seen += 1
        shown = look(made, name, capsys)
        refused += shown is None
        faults = wrong(shown, right)
        if faults and not checked._told:  # what is left of a sum is marked by a note
            raise AssertionError(f"{path}: {faults}")
        hard = [f for f in faults if re.search(r"metrics|headline|best|samples|\.rows", f)]
        assert not hard, f"{path}: {hard}"
    assert 0 <= refused < seen


def test_plans_on_damaged_records(made: Made) -> None:
    before = statuses(made.plan, Run(made.runs / "whole").store)
    redone = 0
    for path in damages(made, seed=1):
        after = statuses(made.plan, Run(made.runs / "whole").store)
        redone += after != before
        for i, status in after.items():
            node = made.plan.nodes[i]
            ours = made.runs / ".store" / node.kind / node.key
            if path.is_relative_to(ours) and path.name not in (ORIGIN, META):
                assert (status.action, bool(status.unfit)) == ("run", True) or path.name == "manifest.json"
    assert redone > 10


def test_old_records_without_checksums_never_end_in_a_traceback(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(made.runs, runs, symlinks=True)
    files = []
    for path in (runs / p.relative_to(made.runs) for p in made.files):
        if path.suffix == ".json":
            content = json.loads(path.read_bytes())
            if isinstance(content, dict):
                content.pop("sum", None)
            write_json(path, content)
        elif path.suffix == ".jsonl":
            lines = path.read_bytes().splitlines(keepends=True)
            path.write_bytes(b"".join(unseal(line) + b"\n" for line in lines))
        if path.suffix in (".json", ".jsonl"):
            files.append(path)
    old = replace(made, project=Project(tmp_path), files=files)
    for name in LOOKS:
        assert wrong(look(old, name, capsys), look(made, name, capsys)) == []
    for n, _ in enumerate(damages(old, seed=3)):
        for name in list(LOOKS)[n % 2 :: 2]:
            look(old, name, capsys)


@pytest.mark.slow
def test_reports_and_runs_on_damaged_records(
    made: Made, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(made.project.path)
    for n, _ in enumerate(damages(made, seed=5)):
        if n % 6 == 0:
            code = main(
                ["report", "whole", "--runs", str(made.runs), "--to", str(made.project.path / "r.html")]
            )
            assert code == 0 or capsys.readouterr().err.startswith(("error: ", "note: "))
    names = ("run.json", "events.jsonl", "metrics.jsonl", "config.yaml")
    store = [p for p in made.files if p.suffix == ".parquet" or p.name == "manifest.json"]
    for path in [made.runs / "whole" / name for name in names] + store[:3]:
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2] + b"\xff" + data[len(data) // 2 :])
        assert main(["run", "recipe=toy.yaml", "iterations=1", "--name", "whole", "--plain"]) == 0
        checked._told.clear()
        assert main(["show", "whole"]) == 0
        assert not checked._told, f"{path} is whole again"
    assert yaml.safe_load((made.runs / "whole" / "config.yaml").read_text())["iterations"] == 1
