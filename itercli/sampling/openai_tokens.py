"""Token ids and log-probabilities of servers with the OpenAI API, where they give them.

The API has no field for ids. vLLM's server has one, `return_token_ids`, and keeps special tokens in
the text if it is asked to, as the samplers here do. Which tokenizer a server has it does not say, so
training takes its ids only if they spell the text under its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from itercli.records import Generated, text_digest


def gives_ids(models: Mapping[str, Any]) -> bool:
    """Whether a server gives token ids, by its list of models."""
    entries = models.get("data")
    return isinstance(entries, list) and any(
        isinstance(entry, dict) and entry.get("owned_by") == "vllm" for entry in entries
    )


def asks(*, ids: bool, logprobs: bool, chat: bool) -> dict[str, Any]:
    """Fields of a request.

    Args:
        ids: The server gives token ids.
        logprobs: Those of the sampled tokens are wanted.
        chat: The endpoint, which decides the type of `logprobs`.
    """
    body: dict[str, Any] = {}
    if ids:
        body |= {
            "return_token_ids": True,
            "skip_special_tokens": False,
            "spaces_between_special_tokens": False,
        }
    if logprobs:
        body["logprobs"] = True if chat else 1
    return body


def tokens_of(choice: Mapping[str, Any], text: str, *, logprobs: bool) -> Generated | None:
    """The tokens of an answer; None if the server does not give them.

    Args:
        choice: An entry of the answer's `choices`.
        logprobs: They are wanted; they stay None if there is not one for each token.
    """
    ids = choice.get("token_ids")
    if not isinstance(ids, list) or not ids or not all(isinstance(i, int) and i >= 0 for i in ids):
        return None
    found = _logprobs(choice.get("logprobs")) if logprobs else []
    return Generated(
        ids=ids,
        # vLLM names the string that stopped it, or the token; null is the model's own end.
        ended=choice.get("finish_reason") == "stop" and not isinstance(choice.get("stop_reason"), str),
        text=text_digest(text),
        vocabulary="",
        logprobs=found if len(found) == len(ids) else None,
    )


def _logprobs(given: Any) -> list[float]:
    """Of the sampled tokens, from the form of either endpoint."""
    if not isinstance(given, dict):
        return []
    content = given.get("content")
    values = (
        [entry.get("logprob") for entry in content if isinstance(entry, dict)]
        if isinstance(content, list)
        else given.get("token_logprobs")
    )
    if not isinstance(values, list) or not all(isinstance(value, int | float) for value in values):
        return []
    return [float(value) for value in values]
