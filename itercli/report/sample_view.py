"""Samples on a terminal: readable in 80 columns, nothing a model wrote is interpreted."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.text import Text

from itercli.report.blocks import block, messages, rule
from itercli.report.dialogue_view import learnt, show_dialogue
from itercli.report.episode_view import ending, show_episode
from itercli.report.extension_view import grew_in_steps, growth, show_steps
from itercli.report.pair_view import decision, show_pair
from itercli.report.samples import Page
from itercli.report.text import clean, first_line
from itercli.report.tree_view import show_tree, summary

LINES = 40
FACT = 100  # characters of a fact about a completion


def show_page(
    console: Console, page: Page, run: str, *, offset: int, lines: int | None = LINES, trees: bool = False
) -> None:
    """Print a page of samples.

    Args:
        lines: Lines of each text that are shown; None for all.
        trees: Draw search trees whole.
    """
    calls = any(sample.get("step") for sample in page.samples)
    kind = "calls" if calls else page.kind
    title = Text.assemble((run, "bold"), " ", (page.node, "bold"), f"  {page.rows} {kind}")
    nameless = "without a reason" if page.kind == "pairs" else "scored"
    if page.outcomes and any(page.outcomes):
        title.append(": " + clean(", ".join(f"{n} {name or nameless}" for name, n in page.outcomes.items())))
    console.print(title)
    if not page.finished:
        what = "calls" if calls else "rows"
        console.print(f"unfinished: the {what} so far, in the order in which they were done", style="yellow")
    for sample in page.samples:
        console.print()
        if "example" in sample:
            _example(console, sample["example"], lines)
        elif "pair" in sample:
            _pair(console, sample["pair"], lines)
        elif "dialogue" in sample:
            _head(console, sample["dialogue"], learnt(sample["dialogue"]))
            show_dialogue(console, sample["dialogue"], lines)
        elif "episode" in sample:
            _head(console, sample["episode"], ending(sample["episode"]))
            show_episode(console, sample["episode"], lines)
        elif "tree" in sample:
            _head(console, sample["tree"], summary(sample["tree"]))
            show_tree(console, sample["tree"], lines, drawn=trees)
        else:
            _sample(console, sample, lines)
    if page.samples:
        last = offset + len(page.samples)
        more = f"; the next ones: --offset {last}" if last < page.matched else ""
        console.print()
        console.print(f"{offset + 1} to {last} of {page.matched} that match{more}", style="dim")


def _sample(console: Console, sample: dict[str, Any], lines: int | None) -> None:
    head = Text(clean(str(sample["prompt_id"])), "bold")
    if sample["step"] is not None:
        head.append(f" call {sample['index']}: {clean(sample['step'])}")
    elif sample["index"] is not None:
        head.append(f" #{sample['index']}")
    if sample["value"] is not None:
        head.append("  ")
        head.append_text(_verdict(sample))
    rule(console, head)
    facts = [sample["policy"]]
    if sample["tokens"] is not None:
        cut = ", cut at the limit" if sample["finish"] == "length" else ""
        facts.append(f"{sample['tokens']} tokens{cut}")
    if sample["finish"] == "error":
        facts.append("sampling failed")
    drawn = sample["value"] is None and sample["completion"] is not None
    meta: dict[str, Any] = (sample["meta"] if drawn else None) or {}
    grown = grew_in_steps(meta)
    facts += [growth(meta)] if grown else _plain(meta)
    if any(facts):
        console.print(Text(clean("  ".join(f for f in facts if f)), "dim"))
    if sample["prompt"] is None and sample["step"] is None:  # a call may be what invents the prompt
        block(console, "prompt", "(not found in the run's prompts)", lines)
    messages(console, sample["prompt"] or [], lines)
    if sample["completion"] is None:
        if sample["reference"] is not None:
            block(console, "reference", sample["reference"], lines, code=True)
        return
    if grown:
        show_steps(console, meta, lines)
    block(console, "completion", sample["completion"], lines, code=True)
    answer = sample["answer"]
    if answer is not None and answer.strip() != sample["completion"].strip():
        block(console, "extracted answer", answer or "(nothing)", lines, code=True)
    if sample["message"]:
        block(console, "tool", sample["message"], lines)


def _plain(meta: dict[str, Any]) -> list[str]:
    """What is said in a word or a number of how a completion came about, its first line at most."""
    kept = {k: v for k, v in meta.items() if isinstance(v, str | int | float)}
    return [f"{name} {first_line(str(value))[:FACT]}" for name, value in kept.items()]


def _verdict(sample: dict[str, Any]) -> Text:
    passed = sample["passed"]
    text = Text(f"score {sample['value']:.4g}")
    if passed is not None:
        text.append("  ")
        text.append("passed" if passed else "failed", "green" if passed else "red")
    if sample["outcome"] and not (passed and sample["outcome"] == "pass"):
        outcome = clean(sample["outcome"])
        text.append(f"  {outcome}" if passed is None else f" ({outcome})")
    return text


def _example(console: Console, row: dict[str, Any], lines: int | None) -> None:
    """A training example; fields that this version doesn't know are shown as they are."""
    row = dict(row)
    rule(console, Text(clean(str(row.pop("prompt_id", "example"))), "bold"))
    if isinstance(row.get("messages"), list):
        messages(console, row.pop("messages"), lines)
    responses = row.get("responses")
    if isinstance(responses, list):
        del row["responses"]
        scores, sources = row.pop("scores", []), row.pop("sources", [])
        target = row.pop("target", None)
        for n, response in enumerate(responses):
            notes = [f"score {scores[n]:.4g}"] if n < len(scores) else []
            notes += [sources[n]] if n < len(sources) else []
            notes += ["target"] if n == target else []
            block(console, f"response {n}: {', '.join(notes)}", response, lines, code=True)
    for name, value in row.items():
        if value is not None:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            block(console, name, text, lines, code=True)


def _pair(console: Console, row: dict[str, Any], lines: int | None) -> None:
    _head(console, row, decision(row))
    messages(console, row.get("messages") or [], lines)
    show_pair(console, row, lines)


def _head(console: Console, row: dict[str, Any], what: Text) -> None:
    head = Text.assemble((clean(str(row.get("prompt_id", "?"))), "bold"), f" #{row.get('index', 0)}  ")
    rule(console, head.append_text(what))
