"""All tasks, without duplicates, and the split that each belongs to."""

from __future__ import annotations

import hashlib
from functools import cache

# Importing the template modules registers their templates.
from itercli.data.rtl_tasks import (  # noqa: F401
    templates_arith,
    templates_logic,
    templates_reg,
    templates_seq,
)
from itercli.data.rtl_tasks.task import TEMPLATES, Task, stable_hash

# A template with hundreds of parameter choices must not drown the others.
MAX_PER_TEMPLATE = 88

# Whole templates that no other split sees. Most have close relatives that are seen (three inputs
# beside two and four, right beside left): a model has to combine, not to recall.
HELD_OUT_TEMPLATES = (
    "gate3",
    "mux_inv",
    "max2",
    "abs_diff",
    "gate_then_compare",
    "rotate_right",
    "reg_compare",
    "count_down_enable",
    "edge_any",
)

# Share of a template's tasks in percent; the rest is `pretrain`.
SHARES = (("test", 12), ("dev", 10), ("train", 34))


@cache
def all_tasks() -> tuple[Task, ...]:
    """Every task once; of two tasks with the same reference code the first one stays."""
    seen: set[str] = set()
    tasks: list[Task] = []
    for name, (family, fn) in TEMPLATES.items():
        own = [Task(template=name, family=family, **fields) for fields in fn()]
        own.sort(key=lambda t: stable_hash("cap", t.id))
        kept = 0
        for task in own:
            if kept < MAX_PER_TEMPLATE and task.normal_code not in seen:
                seen.add(task.normal_code)
                tasks.append(task)
                kept += 1
    return tuple(tasks)


@cache
def splits() -> dict[str, tuple[Task, ...]]:
    """The splits: disjoint in (template, parameters), fixed, independent of any seed."""
    result: dict[str, list[Task]] = {"train": [], "dev": [], "test": [], "test_templates": [], "pretrain": []}
    for task in all_tasks():
        result[split_of(task)].append(task)
    return {name: tuple(tasks) for name, tasks in result.items()}


def split_of(task: Task) -> str:
    """Split of a task: by template for the held-out ones, else by a hash of its id."""
    if task.template in HELD_OUT_TEMPLATES:
        return "test_templates"
    draw = stable_hash("split", task.id) % 100
    for name, share in SHARES:
        if draw < share:
            return name
        draw -= share
    return "pretrain"


@cache
def split_digest(split: str) -> str:
    """Hash of a split's tasks: instructions, headers and references, whatever their order."""
    parts = sorted("\x1f".join((task.id, task.code, *task.wordings)) for task in splits()[split])
    return hashlib.sha256("\x1e".join(parts).encode()).hexdigest()
