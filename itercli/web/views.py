"""Rows as blocks that a page can draw: which texts, in which form, under which names.

A block is one of

- ``{"text": PLACE, "name", "code"}``: a text under its name;
- ``{"message": PLACE, "name", "note"}``: a turn of a conversation;
- ``{"columns": [{"name", "text"}]}``: texts side by side;
- ``{"section": TITLE, "tone", "open", "blocks"}``: blocks under a title, which folds;
- ``{"tree": [{"parent", "action", "facts", "marks", "best", "blocks"}]}``: nodes, parents first.

PLACE is the number of a text in the page's table of texts (`itercli.web.texts.Texts`); tones
are good, bad, dim or empty.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from itercli.report.dialogue_view import flagged, learnt
from itercli.report.episode_view import best_path, number
from itercli.report.episode_view import headline as turn_line
from itercli.report.extension_view import grew_in_steps, growth
from itercli.report.extension_view import headline as step_line
from itercli.report.pair_view import facts
from itercli.report.samples import outcome
from itercli.report.text import first_line
from itercli.report.tree_view import marks, summary
from itercli.web.survey import verdict
from itercli.web.texts import Texts

Row = dict[str, Any]
Block = dict[str, Any]
NODES = 200  # of a tree
FACT = 100  # characters of a fact
TONES = {"green": "good", "red": "bad", "dim": "dim"}


def view(sample: Row, texts: Texts) -> Row:
    """A sample of `itercli.samples/1` for a page.

    Returns:
        prompt, index, verdict, outcome, facts (short texts) and blocks.
    """
    for name, show in WHOLE.items():
        if name in sample:
            row = sample[name]
            said, blocks = show(row, texts)
            break
    else:
        row = sample
        said, blocks = _completion(row, texts)
    return {
        "prompt": str(sample.get("prompt_id") or row.get("prompt_id") or row.get("id") or "?"),
        "index": row.get("index"),
        "verdict": verdict(row),
        "outcome": outcome(row),
        "facts": [fact[:FACT] for fact in said if fact],
        "blocks": blocks,
    }


def _completion(row: Row, texts: Texts) -> tuple[list[str], list[Block]]:
    meta = row.get("meta") or {}
    said = [str(row["policy"])] if row.get("policy") else []
    said += [f"call: {row['step']}"] if row.get("step") else []
    said += [f"score {row['value']:.4g}"] if isinstance(row.get("value"), int | float) else []
    said += [f"{row['tokens']} tokens"] if row.get("tokens") is not None else []
    said += {"length": ["cut at the limit"], "error": ["sampling failed"]}.get(str(row.get("finish")), [])
    blocks = _messages(row.get("prompt"), texts)
    grown = grew_in_steps(meta)
    if grown:
        said.append(growth(meta))
        blocks += _steps(meta, texts)
    elif row.get("value") is None and row.get("completion") is not None:
        said += [f"{k} {first_line(str(v))}" for k, v in meta.items() if isinstance(v, str | int | float)]
    completion, answer = row.get("completion"), row.get("answer")
    if completion is not None:
        blocks.append(_text("completion", completion, texts, code=True))
        if answer is not None and answer.strip() != str(completion).strip():
            blocks.append(_text("extracted answer", answer or "(nothing)", texts, code=True))
    if row.get("message"):
        blocks.append(_text("tool message", row["message"], texts))
    if row.get("reference") is not None:
        reference = [_text("reference", row["reference"], texts, code=True)]
        blocks.append(_section("reference", reference, opened=completion is None))
    return said, blocks


def _steps(meta: Row, texts: Texts) -> list[Block]:
    """The micro-steps of an extension: what there was, and what both stages wrote."""
    found, text, name = [], meta["draft"], "draft"
    for n, step in enumerate(meta["steps"], 1):
        columns = {name: text, "stage A": step["a"], "stage B": step["b"]}
        tone = "good" if step["taken"] else "bad"
        found.append(_section(step_line(n, step).plain, [_columns(columns, texts)], tone, opened=n == 1))
        if step["taken"]:
            text, name = step["a"] + step["b"], f"text after step {n}"
    return found


def _example(row: Row, texts: Texts) -> tuple[list[str], list[Block]]:
    """A training example; fields that this version doesn't know are shown as they are."""
    row = dict(row)
    blocks = _messages(row.pop("messages", None), texts)
    responses = row.pop("responses", None)
    if isinstance(responses, list):
        scores, sources = row.pop("scores", None) or [], row.pop("sources", None) or []
        target = row.pop("target", None)
        for n, response in enumerate(responses):
            notes = [f"score {scores[n]:.4g}"] if n < len(scores) else []
            notes += [str(sources[n])] if n < len(sources) else []
            notes += ["its likelihood is raised"] if n == target else []
            blocks.append(_text(f"response {n}: {', '.join(notes)}", response, texts, code=True))
    for name, value in row.items():
        if value not in (None, {}, []) and name not in ("prompt_id", "index"):
            blocks.append(_text(name, value if isinstance(value, str) else _told(value), texts))
    return [f"{len(responses)} responses"] if isinstance(responses, list) else [], blocks


def _pair(row: Row, texts: Texts) -> tuple[list[str], list[Block]]:
    sources = [*(row.get("sources") or ()), "", ""]
    names = [f"{kind} {by}".strip() for kind, by in zip(("chosen", "rejected"), sources, strict=False)]
    answers = dict(zip(names, (row.get("chosen", ""), row.get("rejected", "")), strict=True))
    blocks = [*_messages(row.get("messages"), texts), _columns(answers, texts)]
    return [fact for line in facts(row) for fact in line], blocks


def _dialogue(row: Row, texts: Texts) -> tuple[list[str], list[Block]]:
    meta = _meta(row)
    said = [learnt(row).plain.partition("  ")[2]]  # its origin stands beside it as outcome
    said += [f"{k} {first_line(str(v))}" for k, v in meta.items() if isinstance(v, str | int | float)]
    blocks = []
    for message, flag in flagged(row):
        note = ("" if flag else "not ") + "trained on" if message.get("role") == "assistant" or flag else ""
        blocks.append(_message(message, texts, note, "good" if flag else ""))
    more = {k: v for k, v in meta.items() if isinstance(v, dict | list) and v}
    if more:
        told = [_text(name, _told(value), texts) for name, value in more.items()]
        blocks.append(_section("how it came about", told, opened=False))
    return said, blocks


def _episode(row: Row, texts: Texts) -> tuple[list[str], list[Block]]:
    meta, turns = _meta(row), row.get("turns") or []
    said = [f"score {number(row.get('score'))}", str(row.get("policy", "")), str(meta.get("environment", ""))]
    said += [f"{len(turns)} turns", f"{row.get('tokens', '?')} tokens"]
    said += [f"{meta['given']} turns given"] if meta.get("given") else []
    blocks = _messages(row.get("opening"), texts)
    if meta.get("error"):
        blocks.append(_text("environment failed", str(meta["error"]), texts))
    return said, blocks + [_turn(n, turn, texts) for n, turn in enumerate(turns, 1)]


def _turn(n: int, turn: Row, texts: Texts) -> Block:
    reward = turn.get("reward") or 0
    tone = "bad" if "error" in (turn.get("info") or {}) or reward < 0 else "good" if reward > 0 else ""
    return _section(turn_line(n, turn).plain, _turn_blocks(turn, texts), tone)


def _turn_blocks(turn: Row, texts: Texts) -> list[Block]:
    action, said = str(turn.get("action", "")), str(turn.get("text", ""))
    blocks = [_text("answer", turn["text"], texts)] if said.strip() != action.strip() else []
    blocks.append(_text("action", turn.get("action") or "(none)", texts))
    return [*blocks, _text("observation", turn.get("observation", ""), texts)]


def _tree(row: Row, texts: Texts) -> tuple[list[str], list[Block]]:
    """A search tree: the way to its best end, and the nodes that were made first."""
    nodes, meta = row.get("nodes") or [], _meta(row)
    said = [*summary(row).plain.split("  "), str(row.get("policy", "")), str(meta.get("environment", ""))]
    said += [f"{row.get('tokens', '?')} tokens"]
    said += [f"{n} {name}" for name, n in (meta.get("counts") or {}).items()]
    best = {node["id"] for node in best_path(nodes)}
    shown = [node for node in nodes if node["id"] < NODES or node["id"] in best]  # parents come first
    places = {node["id"]: n for n, node in enumerate(shown)}
    drawn = [_node(node, places, node["id"] in best, texts) for node in shown]
    blocks = [*_messages(row.get("opening"), texts), {"tree": drawn, "left": len(nodes) - len(shown)}]
    return said, blocks


def _node(node: Row, places: dict[int, int], best: bool, texts: Texts) -> Row:
    turn, visits = node.get("turn") or {}, node["visits"]
    said = [f"{visits} visits", f"mean {number(node['value'] / visits)}"] if visits else ["no visit"]
    said += [f"score {number(turn['score'])}"] if turn else []
    action = first_line(str(turn.get("action", "")))[:FACT] or "(none)" if turn else "(start)"
    return {
        "parent": places.get(node["parent"]),
        "action": action,
        "facts": ", ".join(said),
        "marks": [{"name": name, "tone": TONES.get(style, "")} for name, style in marks(node, best)],
        "best": best,
        "blocks": _turn_blocks(turn, texts) if turn else [],
    }


def _messages(messages: Any, texts: Texts) -> list[Block]:
    found = messages if isinstance(messages, list) else [{"role": "?", "content": messages}] * bool(messages)
    return [_message(m, texts) for m in found if isinstance(m, dict)]


def _message(message: Mapping[str, Any], texts: Texts, note: str = "", tone: str = "") -> Block:
    content = texts.add(message.get("content", ""))
    return {"message": content, "name": str(message.get("role", "?")), "note": note, "tone": tone}


def _text(name: str, text: Any, texts: Texts, *, code: bool = False) -> Block:
    return {"text": texts.add(text), "name": name, "code": code}


def _columns(columns: dict[str, Any], texts: Texts) -> Block:
    return {"columns": [{"name": name, "text": texts.add(text)} for name, text in columns.items()]}


def _section(title: str, blocks: list[Block], tone: str = "", *, opened: bool = True) -> Block:
    return {"section": title, "tone": tone, "open": opened, "blocks": blocks}


def _meta(row: Row) -> Row:
    meta = row.get("meta")
    return meta if isinstance(meta, dict) else {}


def _told(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


WHOLE = {"example": _example, "pair": _pair, "dialogue": _dialogue, "episode": _episode, "tree": _tree}
