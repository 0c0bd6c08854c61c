"""Stage `lm_eval`: a task of our own, on a tiny model, without a network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from itercli.stages.base import StageError
from itercli.stages.lm_eval import FIX, LmEval, metrics_of
from itercli.training.base import Interrupted
from tests.stages.context import Context
from tests.training.tiny import tiny_ref

TASK = """\
task: toy_choice
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
doc_to_choice: "{{choices}}"
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""
FOUND = {
    "results": {
        "gsm": {
            "alias": "gsm", "exact_match,strict-match": 0.5, "exact_match_stderr,strict-match": 0.1,
            "perplexity,none": 7.0, "perplexity_stderr,none": "N/A",
        }
    },
    "n-samples": {"gsm": {"original": 9, "effective": 4}},
}  # fmt: skip


def test_metrics_have_intervals_where_the_harness_has_errors() -> None:
    metrics = metrics_of(FOUND)
    assert metrics["gsm.perplexity"] == 7.0
    strict = metrics["gsm.exact_match/strict-match"]
    assert strict == pytest.approx({"value": 0.5, "low": 0.304, "high": 0.696, "prompts": 4}, abs=1e-3)
    assert set(metrics) == {"gsm.perplexity", "gsm.exact_match/strict-match"}


def test_missing_package_and_folder_are_reported_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = LmEval(role="policy", tasks=("a",), include_path="nowhere")
    monkeypatch.setattr("itercli.stages.lm_eval.find_spec", lambda name: None)
    assert stage.check()[0][2] == FIX
    monkeypatch.setattr("itercli.stages.lm_eval.find_spec", lambda name: object())
    assert stage.check()[0][0] == "include_path"


def test_key_follows_the_task_files(tmp_path: Path) -> None:
    stage = LmEval(role="policy", tasks=("a",), include_path=str(tmp_path), batch_size=3)
    (tmp_path / "a.yaml").write_text("task: a")
    before = stage.fingerprint()
    (tmp_path / "a.yaml").write_text("task: b")
    assert stage.fingerprint() != before
    assert stage.key_params() == LmEval(role="other", tasks=("a",)).key_params()


@pytest.mark.slow
def test_own_task_on_a_tiny_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lm_eval")
    for variable in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(variable, "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    data = tasks / "data.jsonl"
    rows: list[dict[str, Any]] = [
        # Many letters are always less likely than one, so the first choice is the model's.
        {"question": f"assign y = {i}", "answer": int(i == 0), "choices": [";", " zebra zebra zebra"]}
        for i in range(4)
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tasks / "toy.yaml").write_text(TASK.replace("DATA", str(data)))
    stage = LmEval(role="policy", tasks=("toy_choice",), include_path=str(tasks), batch_size=2)
    context = Context({})
    context.models["policy"] = tiny_ref(tmp_path / "model")
    stage.run(context)  # type: ignore[arg-type]
    assert context.metrics["toy_choice.acc"]["value"] == 0.75
    assert context.metrics["toy_choice.acc"]["prompts"] == 4
    assert context.files["results.json"]["n-samples"] == {"toy_choice": {"original": 4, "effective": 4}}

    monkeypatch.setattr(context, "stopping", lambda: True)
    with pytest.raises(Interrupted):
        stage.run(context)  # type: ignore[arg-type]
    misspelt = LmEval(role="policy", tasks=("toy_choise",), include_path=str(tasks))
    with pytest.raises(StageError, match="Did you mean toy_choice"):
        misspelt.run(context)  # type: ignore[arg-type]
