"""Cleaning: random stores lose what nobody refers to and nothing else, beside kills and other processes."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from itercli.engine import removal
from itercli.engine.files import Locked, lock, write_json
from itercli.engine.garbage import size_of, survey
from itercli.engine.removal import remove
from itercli.engine.runs import Run
from itercli.engine.store import CHECKPOINTS, JOURNAL, MODEL, Entry, Store
from itercli.errors import IterError
from itercli.report.details import details


def make(store: Store, kind: str, key: str, *, finished: bool = True) -> Entry:
    """An artifact of real layout; an unfinished one has a journal and a checkpoint."""
    entry = store.entry(kind, key)
    entry.path.mkdir(parents=True, exist_ok=True)
    if not finished:
        (entry.path / JOURNAL).write_text("{}\n")
        (entry.path / CHECKPOINTS / "step-1").mkdir(parents=True)
        return entry
    if kind == "model":
        weights = entry.path / "model" / "weights"
        weights.mkdir(parents=True)
        (weights / "model.safetensors").write_bytes(key.encode() * 50)
        write_json(
            entry.path / MODEL, {"base": f"model/{key}/model/weights", "adapter": None, "digest": None}
        )
    else:
        (entry.path / "rows.json").write_text(key)
    seal(entry)
    return entry


def seal(entry: Entry) -> None:
    """Write its manifest."""
    entry.finish(
        ingredients={}, inputs={}, models={}, rows=1, record=None, counts={}, metrics={}, seconds=1, work={}
    )  # fmt: skip


def make_run(root: Path, name: str, nodes: dict[str, tuple[str, str]], **info: Any) -> Run:
    """A run's folder; nodes are id -> (kind, key)."""
    run = Run(root / name)
    run.path.mkdir(parents=True, exist_ok=True)
    places = {
        i: {"kind": kind, "key": key, "uses": kind, "iteration": int(i[10:12]) if i[0] == "i" else 0,
            "needs": [], "models": {}}
        for i, (kind, key) in nodes.items()
    }  # fmt: skip
    run.save({"recipe": "x", "state": "finished", "nodes": places, **info})
    return run


def trained(root: Path, name: str, iterations: int, **info: Any) -> Run:
    """A run that trained a model in each iteration."""
    nodes = {f"iteration-{n:02d}/train": ("model", f"{name}{n}") for n in range(1, iterations + 1)}
    for _, key in nodes.values():
        make(Store(root / ".store"), "model", key)
    return make_run(root, name, nodes, **info)


def snapshot(entry: Entry) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in entry.path.rglob("*") if p.is_file() and p.name != ".lock"}


@pytest.mark.parametrize("seed", range(25))
def test_random_stores_lose_only_what_nobody_refers_to(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    root = tmp_path / "runs"
    store = Store(root / ".store")
    keys = [f"{n:020x}" for n in range(rng.randint(1, 14))]
    kinds = {key: rng.choice(["model", "scores", "prompts"]) for key in keys}
    for key in keys:
        entry = make(store, kinds[key], key, finished=rng.random() < 0.7)
        if rng.random() < 0.3:  # a kill between the manifest and the end of the work files
            (entry.path / CHECKPOINTS / "step-2").mkdir(parents=True)
            (entry.path / CHECKPOINTS / "step-2" / "w").write_text("weights")
        if rng.random() < 0.3:
            (entry.path / ".rows.json.123.tmp").write_text("torn")
        if rng.random() < 0.2:
            shutil.copytree(entry.path, entry.path.with_name(f"{key}.damaged-20260101-000000"))
    runs = []
    for n in range(rng.randint(0, 4)):
        used = rng.sample(keys, rng.randint(0, len(keys)))
        nodes = {f"iteration-{i:02d}/{kinds[k]}": (kinds[k], k) for i, k in enumerate(used, 1)}
        runs.append(make_run(root, f"run{n}", nodes))
        for attempt in range(1, rng.randint(1, 4)):
            folder = runs[-1].path / "logs" / f"attempt-{attempt:02d}"
            folder.mkdir(parents=True)
            (folder / "train.log").write_text("log")
    named = {p["key"] for run in runs for p in run.info["nodes"].values()}
    entries = [store.entry(kinds[k], k) for k in keys if k in named]
    finished = {e.key: snapshot(e) for e in entries if e.manifest}
    started = {e.key for e in entries if e.started and not e.manifest}
    before = size_of(root)

    found = survey(root)
    removed, left = remove(root, found)

    assert left == []
    assert removed == found
    lock_files = 200 * len(keys) + 200  # who holds a lock is written into it
    assert sum(i.size for i in found) <= before - size_of(root) + lock_files
    for key in keys:
        assert store.entry(kinds[key], key).path.exists() == (key in named)
    for entry in entries:
        if manifest := entry.manifest:
            assert entry.damage(manifest, thorough=True) == ""
            assert snapshot(entry).items() <= finished[entry.key].items()
        else:
            assert entry.started == (entry.key in started)
    for run in runs:
        states = {s["key"]: s["state"] for s in details(run)["stages"]}
        assert all((states[k] == "done") == (k in finished) for k in states)
        assert len(list(run.path.glob("logs/attempt-*"))) <= 1
    assert survey(root) == []
    assert not (store.root / ".removed").exists()


def test_models_of_earlier_iterations_go_only_when_asked(tmp_path: Path) -> None:
    first = trained(tmp_path, "a", 4)
    trained(tmp_path, "b", 2)
    store = Store(tmp_path / ".store")
    assert survey(tmp_path) == []
    # A third run goes on from a model of the first one, and another shares one of its newest.
    make_run(tmp_path, "c", {}, roles={"policy": {"path": str(store.entry("model", "a1").path / "model")}})
    found = survey(tmp_path, keep_last=1, keep={"a2"})
    assert [(i.path.name, i.run) for i in found] == [("a3", "a"), ("b1", "b")]
    remove(tmp_path, found, keep_last=1, keep={"a2"})
    entry = store.entry("model", "a3")
    manifest = entry.manifest
    assert manifest is not None
    assert manifest["removed"]["files"] == ["model/weights/model.safetensors"]
    assert entry.damage(manifest, thorough=True) == ""
    assert "iter clean" in entry.missing_model()
    assert survey(tmp_path, keep_last=1, keep={"a2"}) == []
    shown = details(first)
    assert [(s["state"], s["note"]) for s in shown["stages"]][1:3] == [
        ("done", ""),
        ("done", "model removed"),
    ]
    assert [bool(m["path"]) for m in shown["lineage"]] == [True, True, False, True]


def test_what_unfinished_stages_need_and_running_runs_made_stays(tmp_path: Path) -> None:
    run = trained(tmp_path, "a", 3)
    info = run.info
    info["nodes"]["iteration-03/late"] = {
        **info["nodes"]["iteration-03/train"], "kind": "scores", "key": "late",
        "needs": ["iteration-01/train"],
    }  # fmt: skip
    run.save(info)
    assert [i.path.name for i in survey(tmp_path, keep_last=1)] == ["a2"]
    with run.lock():
        assert survey(tmp_path, keep_last=1) == []


def test_kept_model_in_another_artifact_stays(tmp_path: Path) -> None:
    trained(tmp_path, "a", 3)
    entry = Store(tmp_path / ".store").entry("model", "a3")
    layout = {"base": "model/a1/model/weights", "adapter": None, "digest": "sha256:0"}
    write_json(entry.path / MODEL, layout)
    with pytest.raises(IterError, match=r"model\.json is damaged"):
        survey(tmp_path, keep_last=1)
    seal(entry)
    assert [i.path.name for i in survey(tmp_path, keep_last=1)] == ["a2"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"nodes": {"a": {}}}', '{"recipe": "x"}', None])
def test_run_that_cannot_be_read_is_named_and_nothing_goes(tmp_path: Path, content: str | None) -> None:
    make(Store(tmp_path / ".store"), "scores", "k")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "events.jsonl").touch()
    if content is not None:
        (broken / "run.json").write_text(content)
    with pytest.raises(IterError, match=r"run broken refers to is not known"):
        survey(tmp_path)


def test_links_are_not_followed(tmp_path: Path) -> None:
    root, outside = tmp_path / "runs", tmp_path / "outside"
    store = Store(root / ".store")
    precious = outside / "precious"
    precious.mkdir(parents=True)
    (precious / "file").write_text("mine")
    entry = make(store, "scores", "k")
    (entry.path / "link").symlink_to(precious)
    (store.root / "scores" / "elsewhere").symlink_to(precious)
    (store.root / "kind").symlink_to(outside)
    removed, _ = remove(root, survey(root))
    assert [i.path for i in removed] == [entry.path]
    assert (precious / "file").read_text() == "mine"
    os.rename(store.root, tmp_path / "disk")
    store.root.symlink_to(tmp_path / "disk")
    with pytest.raises(IterError, match="is a link"):
        survey(root)


def test_artifact_in_use_and_a_second_clean_are_left_alone(tmp_path: Path) -> None:
    entry = make(Store(tmp_path / ".store"), "scores", "k", finished=False)
    found = survey(tmp_path)
    with entry.lock():
        removed, left = remove(tmp_path, found)
    assert removed == []
    assert f"in use by process {os.getpid()}" in left[0][1]
    with lock(tmp_path / ".store" / removal.CLEAN_LOCK, "other"), pytest.raises(Locked):
        remove(tmp_path, found)
    assert entry.started


def test_what_a_run_took_meanwhile_stays(tmp_path: Path) -> None:
    entry = make(Store(tmp_path / ".store"), "scores", "k")
    found = survey(tmp_path)
    make_run(tmp_path, "late", {"iteration-01/score": ("scores", "k")})
    assert remove(tmp_path, found) == ([], [(entry.path, "it is needed now, or gone")])
    assert entry.manifest


@pytest.mark.parametrize("at", ["note", "rename", "delete"])
def test_kill_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    """Whatever is left counts as removed or as there, and the next clean finds the rest."""
    run = trained(tmp_path, "a", 2)
    store = Store(tmp_path / ".store")
    make(store, "scores", "k")
    target = {"note": (Entry, "remove_files"), "rename": (removal, "_rename"), "delete": (shutil, "rmtree")}

    def die(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(*target[at], die)
        with pytest.raises(KeyboardInterrupt):
            remove(tmp_path, survey(tmp_path, keep_last=1), keep_last=1)
    for entry in store.entries():
        manifest = entry.manifest
        assert manifest is not None
        assert entry.damage(manifest, thorough=True) == ""
    assert {s["state"] for s in details(run)["stages"]} == {"done"}
    remove(tmp_path, survey(tmp_path, keep_last=1), keep_last=1)
    assert survey(tmp_path, keep_last=1) == []
    assert [e.key for e in store.entries()] == ["a1", "a2"]
    assert [bool(e.missing_model()) for e in store.entries()] == [True, False]
    assert json.loads((tmp_path / "a" / "run.json").read_text())["state"] == "finished"
