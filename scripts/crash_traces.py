"""What a run leaves behind while it works, read from outside: for scripts/crash_test.py."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path


def journals(runs: Path) -> dict[str, set[bytes]]:
    """Complete lines of every unfinished stage's journal."""
    found = {}
    for path in runs.glob(".store/*/*/journal.jsonl"):
        lines = path.read_bytes().split(b"\n")[:-1]
        found[str(path.parent.relative_to(runs))] = set(lines)
    return found


def manifests(runs: Path) -> dict[str, dict[str, str]]:
    """Artifact -> its files' checksums."""
    found = {}
    for path in runs.glob(".store/*/*/manifest.json"):
        manifest = json.loads(path.read_text())
        found[str(path.parent.relative_to(runs))] = {n: f["sha256"] for n, f in manifest["files"].items()}
    return found


def events(runs: Path) -> list[dict]:
    """All events of the (only) run."""
    found = []
    for path in runs.glob("*/events.jsonl"):
        for line in path.read_text().splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue  # torn by a kill
    return found


def under_way(runs: Path) -> dict[str, str]:
    """Node -> key of stages that were started in the last attempt and are not finished."""
    found: dict[str, str] = {}
    for event in events(runs):
        if event["event"] == "stage_started":
            found[event["node"]] = event["key"]
        elif event["event"] == "stage_finished":
            found.pop(event["node"], None)
        elif event["event"] == "run_started":
            found.clear()
    return {n: k for n, k in found.items() if not any(runs.glob(f".store/*/{k}/manifest.json"))}


def unfinished(runs: Path) -> set[str]:
    """Names of the run's stages that have instances without an artifact; empty before its first start."""
    found = set()
    for path in runs.glob("*/run.json"):
        for node, place in json.loads(path.read_text())["nodes"].items():
            if not (runs / ".store" / place["kind"] / place["key"] / "manifest.json").exists():
                found.add(node.rpartition("/")[2])
    return found


def traces(runs: Path, key: str = "*") -> dict[str, int]:
    """What an attempt leaves as it gets on: sizes of journals, whole checkpoints, manifests.

    Args:
        key: Only of the stage with this key.
    """
    found = {}
    for pattern in ("journal.jsonl", "checkpoints/step-*/complete.json", "manifest.json"):
        for path in runs.glob(f".store/*/{key}/{pattern}"):
            with suppress(FileNotFoundError):  # just finished
                found[str(path)] = path.stat().st_size
    return {path: size for path, size in found.items() if size}  # a journal begins empty


def resumed_trainings(runs: Path) -> int:
    """How often a training went on from a checkpoint, by the workers' logs."""
    return sum(path.read_text().count("resuming from ") for path in runs.glob("*/logs/attempt-*/*.log"))
