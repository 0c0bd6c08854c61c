"""Whether the prompts of sampling stages leave room in the context of the model that answers them.

Counted are the tokens of the messages' texts, by the model's `tokenizer.json`: a lower bound, as a
chat template adds some. What lies between is found by the stage, before it samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from itercli.engine.files import read_json
from itercli.preflight.rows import Seen
from itercli.recipe.errors import Problem
from itercli.recipe.plan import Node, Plan
from itercli.records import Prompt
from itercli.stages.overlong import named
from itercli.stages.sample import Sample


def problems(node: Node, plan: Plan, seen: Sequence[Seen]) -> Iterator[Problem]:
    """Prompts that are certain not to fit, where the stage is told to fail on them."""
    stage = node.stage
    if (
        not isinstance(stage, Sample)
        or stage.on_overlong != "fail"
        or getattr(stage.sampler, "REMOTE", False)
    ):
        return
    root = plan.roots[node.models["policy"].role]
    context = _context(root.path, stage.sampler) if root.path else None
    if root.path is None or context is None:
        return
    key = f"{node.scope}.{node.name.split('.')[0]}"
    if stage.max_new_tokens >= context:
        what = f"leaves no room for a prompt in the context of {context} tokens of {root.path.name}"
        yield Problem(f"{key}.max_new_tokens", what, str(stage.max_new_tokens), f"less than {context}")
        return
    room = context - stage.max_new_tokens
    over = {p.id: n for one in seen for p in one.rows if (n := _tokens(root.path, p, room)) > room}
    if over:
        yield Problem(
            f"{key}.prompts",
            f"{len(over)} prompts exceed the context of {context} tokens of {root.path.name} with "
            f"max_new_tokens {stage.max_new_tokens}: {named(over)}",
            "",
            "other prompts, a smaller max_new_tokens, or `on_overlong: drop`, `truncate_left` or `fit`",
        )


def _tokens(model: Path, prompt: Prompt, room: int) -> int:
    """Tokens of the texts; 0 where there can't be more than `room`, or nothing can count them."""
    texts = [message.content for message in prompt.messages]
    # A token stands for at least one byte.
    if sum(len(text.encode(errors="replace")) for text in texts) <= room:
        return 0
    tokenizer = _tokenizer(model)
    return 0 if tokenizer is None else sum(len(tokenizer.encode(t, add_special_tokens=False)) for t in texts)


@cache
def _tokenizer(model: Path) -> Any:
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(model / "tokenizer.json"))
    except Exception:  # absent, or of another version: the library raises nothing narrower
        return None


def _context(model: Path, sampler: Any) -> int | None:
    """Longest prompt plus completion, as the sampler has it."""
    config = read_json(model / "config.json")
    if not isinstance(config, dict):
        return None
    nested = config.get("text_config")
    found = (nested if isinstance(nested, dict) else config).get("max_position_embeddings")
    own = getattr(sampler.resolve() if hasattr(sampler, "resolve") else sampler, "max_model_len", None)
    limits = [n for n in (found, own) if isinstance(n, int) and not isinstance(n, bool) and n > 0]
    return min(limits, default=None)
