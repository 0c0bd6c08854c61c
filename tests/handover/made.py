"""A run with real tiny models in its store, made without training: a second or two."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from itercli.engine.rows import write_rows
from itercli.engine.runs import Run
from itercli.engine.store import ROWS
from itercli.models.digest import folder_digest
from itercli.records import Record
from tests.sampling.conftest import save_adapter, save_model


class MadeRun:
    """A run of the role `policy`, stage by stage.

    Args:
        root: Folder of runs; the start model is in `root/../base`.
        model: Whether that is a model; else a folder that looks like one.
    """

    def __init__(
        self, root: Path, *, headline: str | None = "evaluate.score", model: bool = True, name: str = "made"
    ) -> None:
        self.base = root.parent / "base"
        if model:
            save_model(self.base)
        else:
            self.base.mkdir(parents=True)
            (self.base / "config.json").write_text("{}")
            (self.base / "model.safetensors").write_bytes(b"")
        self.run = Run(root / name)
        self.run.path.mkdir(parents=True)
        config = {
            "name": "made",
            "description": "a loop",
            "seed": 0,
            "model": {"path": str(self.base)},
            "roles": {"policy": {"path": str(self.base)}},
            "loop": {"train": {"uses": "train", "role": "policy"}, "evaluate": {"uses": "evaluate"}},
        }
        (self.run.path / "config.yaml").write_text(yaml.safe_dump(config))
        start = {"path": str(self.base), "digest": folder_digest(self.base), "source": "folder"}
        self.info: dict[str, Any] = {
            "format": 1, "recipe": "made", "overrides": ["recipe=made", f"model={self.base}"],
            "folder": str(root), "state": "finished", "iterations": 3, "headline": headline,
            "created": "2026-01-01T00:00:00Z", "updated": "2026-01-01T00:00:00Z",
            "roles": {"policy": start}, "nodes": {},
        }  # fmt: skip
        self.run.save(self.info)

    def stage(
        self,
        node: str,
        kind: str,
        fill: Callable[[Path], None] = lambda folder: None,
        *,
        record: type[Record] | None = None,
        rows: int | None = None,
        models: dict[str, str] | None = None,
        metrics: dict[str, Any] | None = None,
        counts: dict[str, int] | None = None,
        needs: Sequence[str] = (),
    ) -> Path:
        """Add a finished stage; `fill` writes its files."""
        key = node.replace("/", "-")
        entry = self.run.store.entry(kind, key)
        entry.path.mkdir(parents=True)
        fill(entry.path)
        scope = node.partition("/")[0]
        iteration = int(scope[-2:]) if scope.startswith("iteration-") else 0
        inputs = (
            {"prompts": [{"id": n, "key": n.replace("/", "-"), "digest": ""} for n in needs]} if needs else {}
        )
        entry.finish(
            ingredients={}, inputs=inputs, models={}, rows=rows, record=record and record.__name__,
            counts=counts or {}, metrics=metrics or {}, seconds=1.0, work={},
        )  # fmt: skip
        self.info["nodes"][node] = {
            "kind": kind, "key": key, "uses": kind, "iteration": iteration, "needs": list(needs),
            "models": models or {},
        }  # fmt: skip
        self.run.save(self.info)
        if metrics:
            name = node.partition("/")[2]
            self.run.metric(node=node, iteration=iteration, stage=name, key=key, metrics=metrics)
        return entry.path

    def rows(self, node: str, kind: str, rows: Sequence[Record], **stage: Any) -> None:
        """Add a stage with rows."""
        record = type(rows[0])
        self.stage(
            node, kind, lambda folder: write_rows(folder / ROWS, record, rows) and None,
            record=record, rows=len(rows), **stage,
        )  # fmt: skip

    def measured(self, iteration: int, score: float) -> None:
        """Add an evaluation: `evaluate.score`."""
        node = f"iteration-{iteration:02d}/evaluate" if iteration else "before/evaluate"
        value = {"value": score, "low": score - 0.1, "high": score + 0.1, "prompts": 4}
        self.stage(node, "metrics", metrics={"score": value}, models={"policy": f"policy@{iteration}"})

    def adapter(self, iteration: int) -> None:
        """Add a training that left a LoRA adapter on the start model."""

        def fill(folder: Path) -> None:
            save_adapter(self.base, folder / "model" / "adapter", seed=iteration)
            place = f"model/{folder.name}/model/adapter"
            (folder / "model.json").write_text(json.dumps({"base": None, "adapter": place, "digest": None}))

        self._trained(iteration, fill)

    def weights(self, iteration: int) -> None:
        """Add a training of all weights."""

        def fill(folder: Path) -> None:
            save_model(folder / "model" / "weights", seed=iteration)
            place = f"model/{folder.name}/model/weights"
            (folder / "model.json").write_text(json.dumps({"base": place, "adapter": None, "digest": None}))

        self._trained(iteration, fill)

    def _trained(self, iteration: int, fill: Callable[[Path], None]) -> None:
        node = f"iteration-{iteration:02d}/train"
        self.stage(node, "model", fill, models={"start": f"policy@{iteration - 1}"})


def greedy(model: Any, tokenizer: Any, text: str = "the quick brown fox", tokens: int = 24) -> list[int]:
    """What a model goes on with, greedily."""
    import torch

    torch.set_num_threads(1)
    ids = tokenizer(text, return_tensors="pt").input_ids
    out = model.eval().generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False
    )
    return out[0, ids.shape[1] :].tolist()
