"""The RTL task family: splits, leakage, determinism, and benches that tell right from wrong."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from itercli.data.rtl_tasks import (
    HELD_OUT_TEMPLATES,
    TEMPLATES,
    RtlTasks,
    Task,
    all_tasks,
    inject_bug,
    make_bench,
    splits,
)

needs_iverilog = pytest.mark.skipif(shutil.which("iverilog") is None, reason="iverilog is not installed")


def simulate(folder: Path, task: Task, answer: str) -> tuple[str, str]:
    """(compiler's messages, last line of the simulation) of an answer to a task."""
    bench, _ = make_bench(task)
    source = folder / f"{abs(hash((task.id, answer)))}.sv"
    source.write_text(bench + answer)
    flags = ["-Wall", "-Winfloop", "-Wno-timescale", "-g2012", "-s", "tb"]
    binary = source.with_suffix(".vvp")
    compiled = subprocess.run(
        ["iverilog", *flags, "-o", str(binary), str(source)], capture_output=True, text=True, timeout=30
    )
    if not binary.exists():
        return compiled.stderr, ""
    run = subprocess.run(["vvp", "-n", str(binary)], capture_output=True, text=True, timeout=30)
    return compiled.stderr, (run.stdout.strip().splitlines() or [""])[-1]


def fails(folder: Path, task: Task) -> list[str]:
    """Tasks whose reference does not pass its own bench cleanly."""
    stderr, last = simulate(folder, task, task.code)
    _, samples = make_bench(task)
    clean = not stderr and last == f"Mismatches: 0 in {samples} samples"
    return [] if clean else [f"{task.id}: {stderr}{last}"]


def test_there_are_enough_templates_and_tasks() -> None:
    sizes = {name: len(tasks) for name, tasks in splits().items()}
    assert len(TEMPLATES) >= 28
    assert sizes["train"] >= 512
    assert sizes["test"] >= 60
    assert sizes["test_templates"] >= 60
    assert sizes["dev"] >= 60
    assert sum(sizes.values()) == len(all_tasks())


def test_splits_are_disjoint_and_held_out_templates_are_seen_nowhere_else() -> None:
    owner: dict[str, str] = {}
    for name, tasks in splits().items():
        for task in tasks:
            assert owner.setdefault(task.id, name) == name
    assert len(owner) == len(all_tasks())
    assert len(HELD_OUT_TEMPLATES) >= 5
    assert {t.template for t in splits()["test_templates"]} == set(HELD_OUT_TEMPLATES)
    for name in ("train", "dev", "test", "pretrain"):
        assert not {t.template for t in splits()[name]} & set(HELD_OUT_TEMPLATES)


def test_no_reference_occurs_in_two_splits() -> None:
    codes = Counter(task.normal_code for task in all_tasks())
    assert max(codes.values()) == 1


def test_splits_and_prompts_do_not_depend_on_the_process() -> None:
    script = (
        "from itercli.data.rtl_tasks import RtlTasks, splits\n"
        "print([t.id for t in splits()['test']][:40])\n"
        "print([p.model_dump_json() for p in RtlTasks(split='dev', limit=4, seed=3).prompts()])\n"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": salt, "PYTHONPATH": str(Path(__file__).parents[2])},
        ).stdout
        for salt in ("1", "2")
    ]
    assert outputs[0] == outputs[1]


def test_the_seed_changes_the_order_and_not_the_split() -> None:
    one, two = ([p.id for p in RtlTasks(split="test", seed=s).prompts()] for s in (0, 1))
    assert one != two
    assert {i.rsplit("/", 1)[0] for i in one} == {i.rsplit("/", 1)[0] for i in two}


def test_a_limit_is_a_prefix_and_ids_are_unique() -> None:
    everything = list(RtlTasks(split="train", wordings=3).prompts())
    assert len({p.id for p in everything}) == len(everything) == 3 * len(splits()["train"])
    first = list(RtlTasks(split="train", wordings=3, limit=5).prompts())
    assert [p.id for p in first] == [p.id for p in everything[:5]]


def test_prompts_carry_what_a_verifier_needs() -> None:
    for prompt in RtlTasks(split="dev", limit=20).prompts():
        meta = prompt.meta
        assert {"template", "family", "params", "split", "header", "top", "bench", "samples"} <= set(meta)
        assert prompt.messages[0].content.endswith(meta["header"] + "\n")
        assert prompt.reference is not None
        assert prompt.reference.startswith(meta["header"])
        assert prompt.reference.endswith("endmodule\n")
        assert "module reference_module" in meta["bench"]


def test_reference_fraction_is_exact_and_nested() -> None:
    def kept(fraction: float) -> set[str]:
        prompts = RtlTasks(split="train", limit=100, reference_fraction=fraction).prompts()
        return {p.id for p in prompts if p.reference is not None}

    assert len(kept(0.0)) == 0
    assert len(kept(0.25)) == 25
    assert kept(0.25) < kept(0.5) < kept(1.0)
    assert all(p.meta["bench"] for p in RtlTasks(split="train", limit=10, reference_fraction=0).prompts())


def test_wordings_of_a_task_differ() -> None:
    for task in all_tasks():
        assert len(set(task.wordings)) == len(task.wordings) >= 3, task.id


def test_bugs_differ_from_the_reference_and_keep_the_header() -> None:
    rng = random.Random(0)
    for task in rng.sample(all_tasks(), 300):
        broken = inject_bug(task, rng)
        assert broken != task.code
        assert broken.startswith(task.header)


def one_per_template() -> list[Task]:
    return list({task.template: task for task in all_tasks()}.values())


@needs_iverilog
def test_each_templates_reference_passes_its_bench(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        bad = [b for found in pool.map(lambda t: fails(tmp_path, t), one_per_template()) for b in found]
    assert bad == []


@needs_iverilog
def test_broken_references_are_caught(tmp_path: Path) -> None:
    rng = random.Random(0)
    tasks = rng.sample(all_tasks(), 80)
    caught = 0
    for task in tasks:
        stderr, last = simulate(tmp_path, task, inject_bug(task, rng))
        caught += bool(stderr) or not last.startswith("Mismatches: 0 ")
    # Some edits change nothing that can be seen (a slice that the port's width cuts off again).
    assert caught >= 0.93 * len(tasks)


@needs_iverilog
@pytest.mark.slow
def test_every_reference_passes_its_bench(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        bad = [b for found in pool.map(lambda t: fails(tmp_path, t), all_tasks()) for b in found]
    assert bad == []
