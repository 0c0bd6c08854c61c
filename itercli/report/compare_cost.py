"""What a run took: time, tokens, training, memory; its own work and what it reused told apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from itercli.report.stages import StageView

Cost = dict[str, Any]
SUMS = ("seconds", "tokens", "rows", "training_steps", "training_tokens", "training_examples")


def cost(views: Sequence[StageView]) -> Cost:
    """Sums over the finished stages of a run, each artifact once.

    Returns:
        Each of `SUMS` -> ``{"spent", "reused"}``: made by this run, and by other runs. `seconds`
        are working seconds of stages, which run beside each other; `tokens` are those that were
        drawn from models, `rows` what the stages that did so made of them. And `peak_memory`:
        bytes of the largest worker process, of stages that this run made, or None.
    """
    total: Cost = {name: {"spent": 0, "reused": 0} for name in SUMS}
    peaks: list[int] = []
    counted: set[str] = set()
    for view in views:
        manifest = view.entry.manifest
        if manifest is None or view.place["key"] in counted:
            continue
        counted.add(view.place["key"])
        slot = "reused" if view.reused else "spent"
        for name, number in _parts(view, manifest).items():
            total[name][slot] += number
        if not view.reused and (peak := manifest.get("work", {}).get("peak_memory")):
            peaks.append(peak)
    total["seconds"] = {slot: round(number, 3) for slot, number in total["seconds"].items()}
    return {**total, "peak_memory": max(peaks, default=None)}


def _parts(view: StageView, manifest: dict[str, Any]) -> dict[str, float]:
    parts: dict[str, float] = {"seconds": manifest["seconds"]}
    if "tokens" in manifest["counts"]:  # stages count the tokens that they drew
        parts |= {"tokens": manifest["counts"]["tokens"], "rows": manifest["rows"] or 0}
    if view.place["kind"] == "model":
        for name in ("steps", "tokens", "examples"):
            value = manifest["metrics"].get(name)
            parts[f"training_{name}"] = round(value) if isinstance(value, int | float) else 0
    return parts
