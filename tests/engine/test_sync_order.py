"""What is on the disk before a manifest says that an artifact is finished."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from itercli.engine.context import Context
from itercli.engine.store import CHECKPOINTS, JOURNAL, MANIFEST, Entry, Store
from itercli.records import ModelRef, Trajectory
from itercli.training.checkpoints import MARKER, REQUIRED, Checkpoints
from itercli.training.step_log import STEPS, StepLog
from tests.engine.order import Order
from tests.engine.test_journal import row

Fill = Callable[[Context], None]


def rows(ctx: Context) -> None:
    journal = ctx.journal(Trajectory, total=2)
    journal.append(row(1))
    journal.append(row(0))
    ctx.finish_rows(Trajectory, journal.ordered(lambda r: r.seed))


def metrics(ctx: Context) -> None:
    ctx.finish_file("groups.json", {"by": "template", "groups": {}})
    ctx.finish_metrics({"pass@1": 0.5})


def plugin(ctx: Context) -> None:
    """Files that a method of somebody else leaves, at any depth."""
    folder = ctx.work / "model" / "weights" / "deep"
    folder.mkdir(parents=True)
    (folder / "shard.bin").write_bytes(b"weights")
    (ctx.work / CHECKPOINTS / "step-1").mkdir(parents=True)
    ctx.finish_model(ctx.work / "model" / "weights")


def full(ctx: Context) -> None:
    transformers = pytest.importorskip("transformers")
    from itercli.training.models import save_weights
    from tests.sampling.conftest import save_model, save_tokenizer

    start = ctx.work.parents[2] / "start"
    save_model(start)
    save_tokenizer(start)
    model = transformers.AutoModelForCausalLM.from_pretrained(start)
    save_weights(model, ModelRef(base=str(start), version="p@0", digest="d"), ctx.work / "model" / "weights")
    steps(ctx)
    ctx.finish_model(ctx.work / "model" / "weights")


def adapter(ctx: Context, task: str = "CAUSAL_LM", auto: str = "AutoModelForCausalLM") -> None:
    transformers = pytest.importorskip("transformers")
    peft = pytest.importorskip("peft")
    from itercli.training.models import save_adapter
    from tests.sampling.conftest import save_model

    start = ctx.work.parents[2] / "start"
    save_model(start)
    model = getattr(transformers, auto).from_pretrained(start, **{"num_labels": 1} if "Seq" in auto else {})
    config = peft.LoraConfig(task_type=task, r=2, target_modules=["q_proj"])
    save_adapter(peft.get_peft_model(model, config), ctx.work / "model" / "adapter")
    steps(ctx)
    ctx.finish_model(start, adapter=ctx.work / "model" / "adapter")


def classifier(ctx: Context) -> None:
    adapter(ctx, "SEQ_CLS", "AutoModelForSequenceClassification")


def steps(ctx: Context) -> None:
    log = StepLog(ctx.work)
    log.add(1, {"loss": 1.0})
    log.add(2, {"loss": 0.5})
    checkpoints = Checkpoints(ctx.work / CHECKPOINTS, "job")
    checkpoints.save(2, lambda folder: [(folder / name).write_bytes(b"x") for name in REQUIRED] and None)


KINDS: dict[str, tuple[str, Fill]] = {
    "rows": ("trajectories", rows),
    "metrics": ("metrics", metrics),
    "full": ("model", full),
    "adapter": ("model", adapter),
    "classifier": ("model", classifier),
    "plugin": ("model", plugin),
}


def make(root: Path, kind: str, fill: Fill) -> Entry:
    """An artifact as a worker makes it."""
    entry = Store(root / ".store").entry(kind, "key")
    entry.path.mkdir(parents=True)
    entry.continue_from({"inputs": {}})
    ctx = Context(
        name="x", iteration=1, seed=0, entry=entry, inputs={}, models={}, shared={},
        stop=threading.Event(), send=lambda message: None,
    )  # fmt: skip
    try:
        fill(ctx)
    finally:
        ctx.close()
    entry.finish(
        ingredients={}, inputs={}, models={}, rows=ctx.row_count, record=ctx.record, counts=ctx.counts,
        metrics=ctx.metrics, seconds=1, work={},
    )  # fmt: skip
    return entry


@pytest.mark.parametrize(("kind", "fill"), KINDS.values(), ids=KINDS)
def test_all_files_and_folders_are_synced_before_the_manifest_and_dropped_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, fill: Fill
) -> None:
    order = Order(monkeypatch)
    entry = make(tmp_path, kind, fill)
    manifest = entry.sealed()
    assert manifest is not None
    sealed = order.at("rename", entry.path / MANIFEST)
    files = {entry.path / name for name in manifest["files"]}
    assert files
    for path in files:
        assert order.at("sync", path) < sealed
        for folder in path.relative_to(entry.path).parents:
            assert order.at("sync", path) < order.at("sync", entry.path / folder)
    for folder in (entry.path, entry.path.parent, entry.path.parent.parent):
        assert any(step == ("sync", folder) for step in order.steps[:sealed])
    dropped = order.at("delete", entry.path / CHECKPOINTS)
    assert sealed < order.at("sync", entry.path) < dropped
    assert not (entry.path / JOURNAL).exists()


def test_a_checkpoint_counts_only_with_all_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = StepLog(tmp_path)
    log.add(1, {"loss": 1.0})
    order = Order(monkeypatch)

    def write(folder: Path) -> None:
        (folder / "deep").mkdir()
        for name in (*REQUIRED, "deep/more"):
            (folder / name).write_bytes(b"x")

    path = Checkpoints(tmp_path / CHECKPOINTS, "job").save(1, write)
    temporary = path.with_name(".tmp-step-1")
    renamed, marked = order.at("rename", path), order.at("rename", path / MARKER)
    for name in (*REQUIRED, "deep/more", "deep"):
        assert order.at("sync", temporary / name) < order.at("sync", temporary) < renamed
    assert renamed < order.at("sync", path.parent) < marked < order.at("sync", path)
    assert order.at("sync", tmp_path / STEPS) < marked


def test_files_that_cannot_be_synced_are_not_sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync = os.fsync

    def broken(handle: int) -> None:
        if os.readlink(f"/proc/self/fd/{handle}").endswith("shard.bin"):
            raise OSError(errno.EIO, "Input/output error")
        sync(handle)

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="Input/output error"):
        make(tmp_path, "model", plugin)
    entry = Store(tmp_path / ".store").entry("model", "key")
    assert entry.manifest is None
    assert entry.started, "its checkpoints are kept"
