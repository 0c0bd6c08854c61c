"""Preference recipes with models that cost nothing: what is kept, reused, skipped and refused."""

from __future__ import annotations

import json
from collections import Counter
from math import log
from pathlib import Path
from typing import Any

import pytest

from itercli.engine.rows import read_rows
from itercli.engine.runs import Run, all_runs
from itercli.preference.selection import share
from itercli.records import PreferencePair
from tests.conftest import Project
from tests.e2e.conftest import TINY_PAIRS, events, the_run

pytestmark = pytest.mark.slow
UPO = (
    "recipe=upo",
    *TINY_PAIRS,
    "sampler=transformers",
    "roles.estimator.path=tiny-rtl",
    "iterations=2",
    "data.train.limit=12",
    "loop.estimate.passes=4",
    "loop.pairs.labelled_share=0.4",
)
LABELLING = ("draft", "label", "labelled", "train_reward")
Plan = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def upo(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A folder with a finished run of two iterations."""
    project = Project(tmp_path_factory.mktemp("upo"))
    project.iter("run", *UPO)
    return project


def plan(project: Project, *overrides: str) -> Plan:
    """Node -> what a plan says of it."""
    out = project.iter("plan", *UPO, *overrides, "--json").stdout
    return {stage["node"]: stage for stage in json.loads(out)["stages"]}


def pairs(project: Project, node: str) -> list[PreferencePair]:
    """A stage's pairs, as they are stored."""
    return list(read_rows(the_run(project).path / node / "rows.parquet", PreferencePair))


def metrics(run: Run, stage: str) -> list[dict[str, Any]]:
    """A stage's metrics, iteration by iteration."""
    return [m["metrics"] for m in run.metrics() if m["stage"] == stage]


def texts(found: list[PreferencePair]) -> Counter[tuple[str, str, str]]:
    """How often each pair of answers is there."""
    return Counter((p.prompt_id, p.chosen, p.rejected) for p in found)


def test_same_command_again_has_nothing_to_do(upo: Project) -> None:
    assert {stage["action"] for stage in plan(upo).values()} == {"reuse"}
    done = upo.iter("run", *UPO)
    assert "nothing to do" in done.stdout
    finished = Counter(e["node"] for e in events(upo, "stage_finished"))
    assert set(finished.values()) == {1}
    assert {"before/train_reward", "before/train_estimator", "iteration-02/train"} <= set(finished)


@pytest.mark.parametrize("stage", ["before/train_reward", "before/train_estimator", "iteration-02/train"])
def test_a_trained_model_is_its_adapter_and_nothing_else(upo: Project, stage: str) -> None:
    manifest = json.loads((the_run(upo).path / stage / "manifest.json").read_text())
    adapter = {f"model/adapter/adapter_{name}" for name in ("config.json", "model.safetensors")}
    assert set(manifest["files"]) == adapter | {"model.json", "steps.jsonl"}


@pytest.mark.parametrize("iteration", [1, 2])
def test_every_pair_is_there_once_with_what_became_of_it(upo: Project, iteration: int) -> None:
    call = ("samples", "--stage", "pairs", "--iteration", str(iteration), "--json", "-n", "1000")
    page = json.loads(upo.iter(*call).stdout)
    shown = [sample["pair"] for sample in page["samples"]]
    assert page["node"] == f"iteration-{iteration:02d}/pairs"
    assert sum(page["outcomes"].values()) == page["rows"] == len(shown)
    assert len({(p["prompt_id"], p["index"]) for p in shown}) == len(shown)

    rows = [PreferencePair.model_validate({k: p[k] for k in PreferencePair.model_fields}) for p in shown]
    candidates, extremes, labelled = (
        pairs(upo, node)
        for node in (f"iteration-{iteration:02d}/candidates", f"iteration-{iteration:02d}/extremes",
                     "before/labelled")
    )  # fmt: skip
    # Best against worst is often a candidate too, and then one row.
    assert texts(rows) == (texts(candidates) | texts(extremes)) + texts(labelled)
    replayed = {p.prompt_id for p in labelled}
    drawn_by = {source for p in rows if p.prompt_id not in replayed for source in p.sources}
    assert drawn_by == {f"policy@{iteration - 1}"}
    assert {source for p in rows if p.prompt_id in replayed for source in p.sources} == {"answers"}

    kept = [p for p in rows if p.kept]
    assert {p.reason for p in kept} <= {"easy", "hard", "margin", "labelled"}
    assert max(Counter(p.prompt_id for p in kept).values()) == 1
    # What the training says it learned from.
    assert metrics(the_run(upo), "train")[iteration - 1]["examples"] == len(kept)


@pytest.mark.parametrize("iteration", [1, 2])
def test_shares_votes_and_alphas_of_the_mix(upo: Project, iteration: int) -> None:
    rows = pairs(upo, f"iteration-{iteration:02d}/pairs")
    own = [p for p in rows if p.meta["rule"] == "top_half_vs_bottom_half"]
    assert all(len(p.probabilities) == 4 for p in own)
    outvoted = [p for p in own if p.vote is not None and p.vote < 0.5]
    assert [p for p in rows if p.reason == "disagreement"] == outvoted
    for pair in rows:
        assert pair.alpha == pytest.approx(0.0 if pair.bald is None else 0.3 * pair.bald / log(2))

    agreed = [p for p in own if p not in outvoted]
    reasons = Counter(p.reason for p in rows)
    hard = share(0.5, agreed)
    assert reasons["easy"] <= share(0.5, agreed)
    assert reasons["hard"] <= share(0.2, range(hard))
    # Among labelled pairs only those of one prompt are in each other's way.
    labelled = [p for p in rows if p.meta["rule"] == "all_ordered"]
    taken = [p for p in labelled if p.reason in ("labelled", "same prompt")]
    assert len(taken) == share(0.4, labelled)
    assert {p.prompt_id for p in taken} == {p.prompt_id for p in labelled if p.kept}


@pytest.mark.parametrize(
    "change", [f"selection={name}" for name in ("random", "margin", "cb_rr", "none")] + ["alpha=none"]
)
def test_ablations_use_everything_before_the_choice_again(upo: Project, change: str) -> None:
    status = plan(upo, f"loop.pairs.{change}")
    again = {node for node, stage in status.items() if stage["action"] == "reuse"}
    assert {node for node in status if node.startswith("before/")} <= again
    first = {node.partition("/")[2] for node in again if node.startswith("iteration-01/")}
    assert {"prompts", "sample", "reward", "candidates", "extremes", "estimate", "noise"} <= first
    assert not {"pairs", "train", "evaluate"} & first
    assert f"option {change.partition('=')[0]} changed" in status["iteration-01/pairs"]["reason"]


def test_reference_of_the_loss_is_the_first_or_the_last_policy(upo: Project) -> None:
    initial, previous = plan(upo), plan(upo, "loop.train.reference=previous")
    for plan_, reference in ((initial, "policy@0"), (previous, "policy@1")):
        assert plan_["iteration-02/train"]["models"] == {"start": "policy@1", "reference": reference}
    assert initial["iteration-01/pairs"]["key"] == previous["iteration-01/pairs"]["key"]
    assert initial["iteration-02/train"]["key"] != previous["iteration-02/train"]["key"]
    assert previous["iteration-01/train"]["action"] == "run"


@pytest.fixture(scope="module")
def indifferent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reward model that gives every answer the same."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    import itercli.models

    start = Path(itercli.models.__file__).parent / "tiny_rtl"
    folder = tmp_path_factory.mktemp("indifferent")
    model = AutoModelForSequenceClassification.from_pretrained(start, num_labels=1)
    torch.nn.init.zeros_(model.score.weight)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(start).save_pretrained(folder)
    return folder


def test_a_reward_model_that_sees_no_difference(empty: Project, indifferent: Path) -> None:
    call = (
        "run", "recipe=online_dpo", *TINY_PAIRS, "sampler=transformers", "iterations=1",
        *(f"before.{stage}=null" for stage in LABELLING), f"roles.reward.path={indifferent}",
    )  # fmt: skip
    failed = empty.iter(*call, "loop.train.on_empty=fail", check=False)
    assert failed.returncode == 1
    for part in ("iteration-01/train failed", "no examples", "iteration-01/pairs is empty", "on_empty=skip"):
        assert part in failed.stderr
    assert "6 dropped: tie" in failed.stdout
    assert "Traceback" not in failed.stdout + failed.stderr

    empty.iter(*call)  # the recipe's own: skip
    last = all_runs(empty.path / "runs")[0]
    assert [e["reason"] for e in last.events() if e["event"] == "train_skipped"] == [
        "iteration-01/pairs is empty"
    ]
    assert metrics(last, "train") == [{"examples": 0, "steps": 0}]
    assert metrics(last, "drift")[0]["kl"]["value"] == 0  # the policy stayed as it is


def test_labels_without_a_difference_train_no_reward_model(empty: Project) -> None:
    # No two answers differ by so many words.
    call = ("run", "recipe=online_dpo", *TINY_PAIRS, "sampler=transformers", "before.labelled.min_margin=999")
    failed = empty.iter(*call, check=False)
    assert failed.returncode == 1
    for part in ("before/train_reward failed", "no examples", "before/labelled is empty"):
        assert part in failed.stderr
    assert "Traceback" not in failed.stdout + failed.stderr


def test_spin_learns_from_the_references_against_its_own_answers(empty: Project) -> None:
    empty.iter(
        "run", "recipe=spin", "iterations=1", "sampler=transformers", "data.train.limit=8",
        "data.eval.limit=4", "loop.sample.max_new_tokens=96", "loop.evaluate.max_new_tokens=96",
        "loop.evaluate.n=1", "loop.evaluate.metrics=[pass@1]", "training.batch_size=4",
    )  # fmt: skip
    found = pairs(empty, "iteration-01/pairs")
    assert found
    assert {p.sources for p in found} == {("reference", "policy@0")}
    (train,) = metrics(the_run(empty), "train")
    assert train["examples"] == len(found)
    assert train["loss_first"] == pytest.approx(log(2), abs=1e-4)  # policy and reference begin as one
    assert events(empty, "policy_loaded")[-1]["policy"] == "policy@1"
