"""The runner itself, in this process: signals at bad moments, twins, rules that end the loop."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from itercli.engine.context import StoredArtifact
from itercli.engine.display import PlainDisplay
from itercli.engine.runner import RunInterrupted, Runner
from itercli.engine.runs import Run, all_runs
from itercli.engine.status import Status, statuses
from itercli.recipe.compose import compose_recipe
from itercli.recipe.plan import Node, Plan, build_plan
from itercli.recipe.schema import check
from itercli.records import Score, Trajectory
from tests.conftest import Project
from tests.engine.test_run import wait_for


class Recorder(PlainDisplay):
    """Keeps what it is told to show."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[tuple[str, bool]] = []

    def finished(self, node: Node, manifest: dict[str, Any], reused: bool) -> None:
        self.done.append((node.id, reused))


def toy_plan(project: Project, *overrides: str) -> Plan:
    composed = compose_recipe([f"recipe={project.path / 'toy.yaml'}", *overrides])
    return build_plan(check(composed.raw, base=project.path))


def toy_run(project: Project, name: str = "run") -> Run:
    path = project.path / "runs" / name
    path.mkdir(parents=True, exist_ok=True)
    return Run(path)


def test_signal_while_a_stage_is_being_started_stops_it(project: Project) -> None:
    class Killing(Recorder):
        def started(self, node: Node, status: Status) -> None:
            super().started(node, status)
            if node.name == "sample":
                os.kill(os.getpid(), signal.SIGTERM)

    display = Killing()
    runner = Runner(toy_plan(project, "sampler.delay=0.5"), toy_run(project), display)
    with pytest.raises(RunInterrupted) as stopped:
        runner.execute()
    assert stopped.value.signum == signal.SIGTERM
    assert "iteration-01/sample" not in dict(display.done)  # it alone takes eight seconds


def test_message_larger_than_the_pipe_arrives_whole(project: Project) -> None:
    big = "x" * 300_000
    plan = toy_plan(project, "iterations=0", f"++before.tasks.source={{name: toy, note: {big}}}")
    runner = Runner(plan, toy_run(project), Recorder())
    assert runner.execute().ran == 1


def test_worker_stopped_from_outside_fails_instead_of_starting_over(project: Project) -> None:
    process = project.start("run", "recipe=toy.yaml", "iterations=1", "sampler.delay=0.1")
    wait_for(project.path / "runs", '"policy_loaded"')
    (run,) = all_runs(project.path / "runs")
    pids = {e["worker"]: e["pid"] for e in run.events() if e["event"] == "worker_started"}
    os.kill(pids["sample"], signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "iteration-01/sample stopped though nobody here asked for it" in err


def test_sampler_that_ends_early_is_an_error(project: Project) -> None:
    done = project.run_toy("sampler={name: toy, fault: short}", check=False)
    assert "iteration-01/sample failed: sample: the sampler ended after 3 of 16 completions" in done.stderr


def test_equal_stages_are_finished_once_each(project: Project) -> None:
    again = "{uses: score, of: sample, scorer: toy}"
    over = ("iterations=1", f"++loop.again={again}", f"++loop.thrice={again}", f"++loop.more={again}")
    first, second = Recorder(), Recorder()
    Runner(toy_plan(project, *over), toy_run(project), first).execute()
    outcome = Runner(toy_plan(project, *over), toy_run(project), second).execute()
    nodes = sorted(toy_plan(project, *over).nodes)
    assert sorted(i for i, _ in first.done) == sorted(i for i, _ in second.done) == nodes
    assert outcome.reused == len(nodes)


def test_content_that_changes_on_a_redo_spreads_in_the_same_run(project: Project) -> None:
    project.env["TOY_SALT"] = "0"
    project.run_toy("--name", "run")
    run = toy_run(project)
    flip((run.path / "iteration-01" / "train" / "model" / "weights" / "config.json").resolve())
    project.env["TOY_SALT"] = "1"  # training on a GPU need not give the same bytes
    done = project.run_toy("--name", "run")
    assert (
        "iteration-02/sample: iteration-01/train was made again with other content; set aside" in done.stdout
    )
    again = ran_since_damage(run)
    assert {"iteration-01/train", "iteration-02/sample", "iteration-02/train"} <= set(again)
    assert "iteration-01/sample" not in again
    assert "nothing to do" in project.run_toy("--name", "run").stdout


def test_rows_of_another_policy_are_not_continued_from(project: Project) -> None:
    project.run_toy("--name", "run")
    run = toy_run(project)
    entry = run.entry("iteration-02/sample")
    assert entry is not None
    rows = list(StoredArtifact(entry, "").rows(Trajectory))
    (entry.path / "manifest.json").unlink()
    (entry.path / "rows.parquet").unlink()
    old = rows[0].model_copy(update={"completion": "99 at 7"}).model_dump_json() + "\n"
    (entry.path / "journal.jsonl").write_text(old)
    (entry.path / "origin.json").write_text('{"models": {"policy": "of another train stage"}}')
    project.run_toy("--name", "run")
    assert list(StoredArtifact(entry, "").rows(Trajectory)) == rows


def test_damaged_artifact_is_set_aside_only_once_by_two_runs(project: Project) -> None:
    """The second one judged the same damage, but finds the stage mended when its turn comes."""
    project.run_toy("--name", "run", "iterations=1")
    run = toy_run(project)
    flip((run.path / "iteration-01" / "sample" / "rows.parquet").resolve())
    slow = Runner(toy_plan(project, "iterations=1"), toy_run(project, "second"), Recorder())
    found = statuses(slow.plan, run.store)
    assert found["iteration-01/sample"].unfit
    project.run_toy("--name", "run", "iterations=1")
    slow.plan.nodes["iteration-01/sample"].raw["sampler"]["delay"] = 9.0  # must not run
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("itercli.engine.runner.statuses", lambda *_: found)
        slow.execute()
    assert len(list(run.store.root.glob("trajectories/*.damaged-*"))) == 1


def test_rule_that_ends_the_loop_looks_at_iterations_in_their_order(project: Project) -> None:
    """Iteration 1's evaluation is done again while later ones are there."""
    over = ("iterations=4", "++stop={stage: evaluate, metric: pass@1, patience: 1}")
    first = Runner(toy_plan(project, *over), toy_run(project), Recorder()).execute()
    flip((toy_run(project).path / "iteration-01" / "evaluate" / "groups.json").resolve())
    again = Runner(toy_plan(project, *over), toy_run(project), Recorder()).execute()
    assert again.stopped_early == first.stopped_early
    assert again.manifests.keys() == first.manifests.keys()


def test_run_that_goes_on_after_its_rule_was_dropped_knows_its_new_iterations(project: Project) -> None:
    project.run_toy("iterations=6", "++stop={stage: evaluate, metric: pass@1, patience: 1}", "--name", "run")
    run = toy_run(project)
    assert run.info["stopped_early"]
    project.run_toy("iterations=6", "--name", "run")
    assert "stopped_early" not in run.info
    assert {n["iteration"] for n in run.info["nodes"].values()} == set(range(7))
    assert "stop:" not in (run.path / "config.yaml").read_text()


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def ran_since_damage(run: Run) -> list[str]:
    events = list(run.events())
    first = next(n for n, e in enumerate(events) if e["event"] == "set_aside")
    return [e["node"] for e in events[first:] if e["event"] == "stage_finished"]


def test_scores_of_completions_that_were_drawn_again_are_replaced(project: Project) -> None:
    project.run_toy("--name", "run", "iterations=1")
    entry = toy_run(project).entry("iteration-01/score")
    assert entry is not None
    rows = list(StoredArtifact(entry, "").rows(Score))
    (entry.path / "manifest.json").unlink()
    (entry.path / "rows.parquet").unlink()
    other = rows[0].model_copy(update={"completion": "99 at 7", "passed": not rows[0].passed})
    (entry.path / "journal.jsonl").write_text("".join(r.model_dump_json() + "\n" for r in (other, rows[1])))
    project.run_toy("--name", "run", "iterations=1")
    assert list(StoredArtifact(entry, "").rows(Score)) == rows


def test_file_system_errors_name_the_path(project: Project) -> None:
    (project.path / "taken").write_text("a file")
    done = project.run_toy("--runs", "taken", check=False)
    assert done.returncode == 1
    assert "taken" in done.stderr.splitlines()[-1]


def test_resume_from_another_folder_finds_what_the_recipe_names(
    project: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    recipe = project.path / "toy.yaml"
    plugin = re.search(r"plugins: \[(.*)\]", recipe.read_text())
    assert plugin is not None
    (project.path / "own.py").write_text(Path(plugin[1]).read_text())
    recipe.write_text(recipe.read_text().replace(plugin[1], "own.py"))
    project.run_toy("iterations=1", "sampler={name: toy, fault: raise}", "--name", "run", check=False)
    elsewhere = Project(tmp_path_factory.mktemp("elsewhere"))
    done = elsewhere.iter("resume", "--trust", str(project.path / "runs" / "run"), check=False)
    assert "toy trouble" in done.stderr


def spans(run: Run, kind: str) -> list[tuple[str, str]]:
    """When the stages named `kind` were under way, (start, end) each."""
    times: dict[str, dict[str, str]] = {}
    for e in run.events():
        if e["event"] in ("stage_started", "stage_finished"):
            times.setdefault(e["node"], {})[e["event"]] = e["time"]
    return [(t["stage_started"], t["stage_finished"]) for node, t in times.items() if node.endswith(kind)]


@pytest.mark.parametrize(
    ("colocate", "gpus", "together"), [("auto", 0, False), ("keep", 0, True), ("auto", 2, True)]
)
def test_sampling_and_training_take_turns_on_a_cpu(
    project: Project, monkeypatch: pytest.MonkeyPatch, colocate: str, gpus: int, together: bool
) -> None:
    monkeypatch.setattr("itercli.engine.runner.gpu_count", lambda: gpus)
    plan = toy_plan(
        project, f"executor.colocate={colocate}", "iterations=1", "sampler.delay=0.1",
        "++roles.other.path=${roles.policy.path}", "loop.train.method={name: toy, delay: 0.1}",
        # Ready at the same time as the samples of `evaluate`.
        "++loop.train_other={uses: train, examples: build, method: {name: toy, delay: 0.1}, role: other, "
        "init_from: base}",
    )  # fmt: skip
    run = toy_run(project)
    Runner(plan, run, Recorder()).execute()
    ((sampled_from, sampled_to),) = spans(run, "iteration-01/evaluate.sample")
    ((trained_from, trained_to),) = spans(run, "iteration-01/train_other")
    assert (trained_from < sampled_to and sampled_from < trained_to) is together
    workers = [e["worker"] for e in run.events() if e["event"] == "worker_started"]
    assert sorted(workers) == ["sample", "score", "train"]  # none was ended and started again
