"""What a key covers is edited while a run is under way: nothing is stored, the next run is right."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import pytest

from itercli import registry
from itercli.engine import runner as runner_module
from itercli.engine.display import PlainDisplay
from itercli.engine.rows import read_rows
from itercli.engine.runner import RunFailed, Runner
from itercli.engine.runs import Run
from itercli.recipe.plan import Plan, build_plan
from itercli.recipe.schema import check
from itercli.records import Prompt, Score, Trajectory
from itercli.stages.base import StageContext
from itercli.stages.preferences import Preferences
from itercli.stages.prompts import Prompts
from itercli.stages.sample import Sample
from itercli.stages.score import ScoreStage
from itercli.worker import Worker
from tests.conftest import HERE

TOY = HERE / "toy" / "toy_plugin.py"


class Inline:
    """A worker in this process: it runs a stage when it is told to."""

    def __init__(self, kind: str, log: Path, *options: Any) -> None:
        self.kind, self.log, self.node = kind, log, None
        self.heard, self.peak = time.monotonic(), 0
        self.fd, self._to = os.pipe()
        self.process = SimpleNamespace(pid=os.getpid(), kill=lambda: None)
        self._messages: list[dict[str, Any]] = []
        self._worker = Worker.__new__(Worker)
        self._worker._orders = SimpleQueue()
        self._worker._stop = threading.Event()
        self._worker._shared = {}
        self._worker.send = self._heard  # type: ignore[method-assign]

    def _heard(self, message: dict[str, Any]) -> None:
        self._messages.append(message)
        os.write(self._to, b".")

    def send(self, message: dict[str, Any]) -> None:
        if message["cmd"] == "run":
            self._worker._run(json.loads(json.dumps(message)))

    def receive(self) -> list[dict[str, Any]]:
        os.read(self.fd, 1 << 16)
        messages, self._messages = self._messages, []
        return messages

    def watch(self) -> None: ...

    def kill(self) -> None: ...

    def close(self) -> None:
        os.close(self.fd)
        os.close(self._to)


class Lab:
    """A loop of prompts, samples and scores in this process, with all that it reads in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data, self.model, self.plugin = folder / "d.jsonl", folder / "model", folder / "own_scorer.py"
        self.data.write_text(
            "".join(json.dumps({"id": f"p{i}", "prompt": f"task {i}"}) + "\n" for i in range(4))
        )
        self.model.mkdir()
        (self.model / "config.json").write_text('{"level": 0}')
        (self.model / "model.safetensors").write_bytes(b"toy")
        (folder / "judging.py").write_text("LIMIT = 50\n")
        self.plugin.write_text(
            "import judging\n"
            "from itercli.records import Score\n"
            "from itercli.registry import register\n"
            "from itercli.verifiers.base import Scorer\n\n"
            "class Judge:\n"
            "    def score(self, prompt, t):\n"
            "        value = float(int(t.completion.split()[0]) < judging.LIMIT)\n"
            "        return Score(prompt_id=prompt.id, index=t.index, completion=t.completion,\n"
            "                     policy=t.policy, value=value, passed=bool(value))\n"
            "    def close(self): ...\n\n"
            "@register('scorer', 'own')\n"
            "class Own(Scorer):\n"
            "    def open(self):\n"
            "        return Judge()\n"
        )
        self.role: dict[str, Any] = {"path": str(self.model)}

    def plan(self, before: dict[str, Any] | None = None) -> Plan:
        raw = {
            "name": "lab",
            "plugins": [str(TOY), str(self.plugin)],
            "model": self.role,
            "roles": {"policy": self.role},
            "sampler": {"name": "toy"},
            "iterations": 1,
            "before": {
                "tasks": {"uses": "prompts", "source": {"name": "jsonl", "path": str(self.data)}},
                **(before or {}),
            },
            "loop": {
                "sample": {"uses": "sample", "role": "policy", "prompts": "tasks", "n": 2},
                "score": {"uses": "score", "of": "sample", "scorer": "own", "workers": 1},
            },
        }
        return build_plan(check(raw, base=self.folder))

    def run(self, plan: Plan | None = None) -> Runner:
        run = Run(self.folder / "runs" / "run")
        run.path.mkdir(parents=True, exist_ok=True)
        runner = Runner(plan or self.plan(), run, PlainDisplay())
        runner.execute()
        return runner

    def rows(self, plan: Plan, node: str, record: Any) -> list[Any]:
        entry = Run(self.folder / "runs" / "run").store.entry(plan.nodes[node].kind, plan.nodes[node].key)
        assert entry.manifest is not None
        return list(read_rows(entry.path / "rows.parquet", record))

    def stored(self, plan: Plan, node: str) -> bool:
        entry = Run(self.folder / "runs" / "run").store.entry(plan.nodes[node].kind, plan.nodes[node].key)
        return entry.manifest is not None or entry.started


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setenv("ITER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(runner_module, "WorkerProcess", Inline)
    # One stage at a time: here nobody goes on writing what another one follows.
    monkeypatch.setattr(ScoreStage, "STREAMS", frozenset())
    registry.load_builtin()
    return Lab(tmp_path)


Edit = Callable[[Lab], None]


def edit_data(lab: Lab) -> None:
    lab.data.write_text(lab.data.read_text().replace("task", "CHANGED"))


def edit_model(lab: Lab) -> None:
    (lab.model / "config.json").write_text('{"level": 1}')


def add_to_model(lab: Lab) -> None:
    (lab.model / "generation_config.json").write_text("{}")


@pytest.mark.parametrize(
    ("edit", "node", "says"),
    [
        (edit_data, "before/tasks", "data or tool d.jsonl changed since this run was planned"),
        (edit_model, "iteration-01/sample", "the model in .*model changed since this run was planned"),
        (add_to_model, "iteration-01/sample", "the model in .*model changed"),
    ],
)
def test_an_edit_after_planning_ends_the_stage(edit: Edit, node: str, says: str, lab: Lab) -> None:
    plan = lab.plan()
    shutil.copytree(lab.model, lab.folder / "model.orig")
    shutil.copy(lab.data, lab.folder / "data.orig")
    edit(lab)
    with pytest.raises(RunFailed, match=f"(?s){node} failed: .*{says}.*The same command again plans"):
        lab.run(plan)
    assert not lab.stored(plan, node)
    # Put back it is the run that was planned.
    shutil.copy(lab.folder / "data.orig", lab.data)
    shutil.rmtree(lab.model)
    shutil.copytree(lab.folder / "model.orig", lab.model)
    again = lab.run().plan
    assert again.nodes[node].key == plan.nodes[node].key
    assert {p.messages[0].content for p in lab.rows(again, "before/tasks", Prompt)} == {
        f"task {i}" for i in range(4)
    }
    assert {t.completion[-1] for t in lab.rows(again, "iteration-01/sample", Trajectory)} == {"0"}


def test_the_next_run_computes_what_is_there_now(lab: Lab) -> None:
    plan = lab.plan()
    edit_model(lab)
    with pytest.raises(RunFailed):
        lab.run(plan)
    again = lab.run().plan
    assert again.nodes["iteration-01/sample"].key != plan.nodes["iteration-01/sample"].key
    assert {t.completion[-1] for t in lab.rows(again, "iteration-01/sample", Trajectory)} == {"1"}


@pytest.mark.parametrize(
    ("stage", "node", "edit", "back"),
    [
        (
            Sample,
            "iteration-01/sample",
            edit_model,
            lambda lab: (lab.model / "config.json").write_text('{"level": 0}'),
        ),
        (Sample, "iteration-01/sample", add_to_model, lambda lab: None),
        (
            Prompts,
            "before/tasks",
            edit_data,
            lambda lab: lab.data.write_text(lab.data.read_text().replace("CHANGED", "task")),
        ),
    ],
)
def test_what_is_edited_and_put_back_during_a_stage_leaves_nothing_of_it(
    stage: Any, node: str, edit: Edit, back: Edit, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = stage.run

    def run(self: Any, ctx: StageContext) -> None:
        edit(lab)
        try:
            original(self, ctx)
        finally:
            back(lab)

    plan = lab.plan()
    monkeypatch.setattr(stage, "run", run)
    with pytest.raises(RunFailed, match=f"{node} failed: .*(written to|edited|changed).*nothing"):
        lab.run(plan)
    assert not lab.stored(plan, node)


def test_a_file_that_a_library_reads_by_itself_is_watched(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = lab.folder / "pairs.parquet"

    def write(chosen: str) -> None:
        pq.write_table(pa.table({"prompt": ["q"], "chosen": [chosen], "rejected": ["no"]}), path)

    write("yes")
    original = Preferences.run

    def run(self: Any, ctx: StageContext) -> None:
        write("EDITED")
        original(self, ctx)
        write("yes")

    plan = lab.plan({"pairs": {"uses": "preferences", "path": str(path)}})
    monkeypatch.setattr(Preferences, "run", run)
    with pytest.raises(RunFailed, match=r"pairs.parquet was written to while the stage ran, and put back"):
        lab.run(plan)
    assert not lab.stored(plan, "before/pairs")


def test_a_stage_that_goes_on_for_long_is_ended_early(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    from itercli.engine import covered
    from itercli.training.base import Interrupted

    monkeypatch.setattr(covered, "LOOK_SECONDS", 0.05)

    def run(self: Any, ctx: StageContext) -> None:
        edit_model(lab)
        for _ in range(1000):
            if ctx.stopping():
                raise Interrupted
            time.sleep(0.02)
        pytest.fail("was not stopped")

    monkeypatch.setattr(Sample, "run", run)
    with pytest.raises(
        RunFailed, match=r"config.json was written to while the stage ran; nothing of this stage"
    ):
        lab.run()


@pytest.mark.parametrize("name", ["own_scorer.py", "judging.py"])
def test_code_that_was_edited_after_planning_is_not_run(name: str, lab: Lab) -> None:
    plan = lab.plan()
    _fresh_worker()
    path = lab.folder / name
    original = path.read_text()
    path.write_text(original.replace("< judging", "> judging").replace("= 50", "= 20"))
    with pytest.raises(RunFailed, match=rf"{name}.* edited since this run was planned"):
        lab.run(plan)
    assert not any(lab.stored(plan, node) for node in plan.nodes)
    path.write_text(original)
    again = lab.run().plan
    assert {i: n.key for i, n in again.nodes.items()} == {i: n.key for i, n in plan.nodes.items()}
    scores = lab.rows(again, "iteration-01/score", Score)
    assert all(s.passed == (int(s.completion.split()[0]) < 50) for s in scores)


def test_an_adapter_that_is_edited_ends_the_stage(lab: Lab) -> None:
    adapter = lab.folder / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"r": 4}')
    (adapter / "adapter_model.safetensors").write_bytes(b"low rank")
    lab.role = {"path": str(lab.model), "adapter": str(adapter)}
    plan = lab.plan()
    (adapter / "adapter_config.json").write_text('{"r": 8}')
    with pytest.raises(RunFailed, match=r"the adapter in .*adapter changed since this run was planned"):
        lab.run(plan)
    assert not lab.stored(plan, "iteration-01/sample")


def test_another_itercli_is_refused(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = lab.plan()
    monkeypatch.setattr(runner_module, "__version__", "0.0.1")
    with pytest.raises(RunFailed, match=r"itercli was 0.0.1 when this run was planned"):
        lab.run(plan)


def test_iterations_of_one_plan_see_one_content(lab: Lab) -> None:
    """Also when the loop ends early and is planned anew with what is known by then."""
    plan = lab.plan()
    edit_data(lab)
    edit_model(lab)
    again = build_plan(plan.recipe, like=plan)
    assert {i: n.key for i, n in again.nodes.items()} == {i: n.key for i, n in plan.nodes.items()}
    assert build_plan(plan.recipe).nodes["before/tasks"].key != plan.nodes["before/tasks"].key


def _fresh_worker() -> None:
    """A worker has none of the planner's modules."""
    import sys

    from itercli import plugins

    for name, module in list(sys.modules.items()):
        if isinstance(getattr(module, "__loader__", None), plugins._Loader) and "toy_plugin" not in name:
            del sys.modules[name]
    plugins._finder.places.clear()
