"""From sampled ids to a completion: its text, and the ids that belong to it.

The text is cut by position: the last id is left out if it ended the turn, whatever the tokenizer
thinks of that token, and all others are shown, special ones as their text.
"""

from __future__ import annotations

from collections.abc import Sequence

from itercli.records import Generated, text_digest
from itercli.sampling.prompting import EncodedPrompt
from itercli.sampling.tokenizer_facts import facts


def cut_at_stop(text: str, stop: Sequence[str]) -> str | None:
    """`text` before the first stop string in it, or None if there is none."""
    places = [place for place in (text.find(s) for s in stop if s) if place >= 0]
    return text[: min(places)] if places else None


def completion(
    prompt: EncodedPrompt,
    ids: Sequence[int],
    *,
    ended: bool,
    stop: Sequence[str] = (),
    logprobs: Sequence[float] | None = None,
) -> tuple[str, bool, Generated | None]:
    """What sampled ids make.

    Args:
        ended: The last id is an end token.
        stop: Strings that the text is cut at.
        logprobs: One for each id, see `Generated.logprobs`.

    Returns:
        (text, whether it was cut at a stop string, its tokens; None if the cut goes through a token).
    """
    whole = list(ids)
    kept = len(whole) - ended
    text = prompt.decode(whole[:kept])
    cut = cut_at_stop(text, stop)
    if cut is not None:
        text, ended = cut, False
        kept = next((n for n in range(kept, -1, -1) if len(prompt.decode(whole[:n])) <= len(cut)), 0)
        if prompt.decode(whole[:kept]) != cut:
            return text, True, None
    generated = Generated(
        ids=whole[: kept + ended],
        ended=ended,
        text=text_digest(text),
        vocabulary=facts(prompt.tokenizer).vocabulary,
        reencodes=prompt.behind(text, closed=ended or cut is not None) == whole[:kept],
        logprobs=None if logprobs is None else list(logprobs[: kept + ended]),
    )
    return text, cut is not None, generated
