"""Continuous batching: slots are refilled as soon as a completion ends."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import DynamicCache

from itercli.sampling.base import Request, Sampled
from itercli.sampling.completion import completion, cut_at_stop
from itercli.sampling.draw import draw, penalized, stream, uniforms
from itercli.sampling.policies import budget, no_room
from itercli.sampling.prompting import EncodedPrompt, prompt_of
from itercli.sampling.slots import PromptKV, SlotCache, prompt_kv
from itercli.sampling.stops import StopTables


@dataclass(slots=True)
class _Running:
    """What a busy slot works on."""

    request: Request
    stop: tuple[str, ...]
    prompt: EncodedPrompt


class Decoder:
    """Decodes many requests with one model, always `slots` rows per step.

    Args:
        model: A causal LM of transformers in eval mode (or a PEFT model around one).
        tokenizer: Its tokenizer.
        end_ids: Tokens that end a completion.
        slots: Rows per step.
        context: Longest prompt plus completion in tokens, or None.
        prompt_cache: Prefilled prompts to keep.
        threads: CPU threads; a setting of the whole process, so each turn sets it anew.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        end_ids: Sequence[int],
        slots: int,
        context: int | None,
        prompt_cache: int = 8,
        threads: int = 1,
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.slots, self.context, self.threads = slots, context, threads
        self.device = model.device
        self.config = model.config.get_text_config()
        self.cache = SlotCache(slots, self.device)
        self._prompt_cache = prompt_cache
        self._prefilled: OrderedDict[tuple[int, ...], tuple[PromptKV, torch.Tensor]] = OrderedDict()
        self._stops = StopTables(tokenizer, int(self.config.vocab_size), self.device)
        ends = torch.zeros(int(self.config.vocab_size), dtype=torch.bool, device=self.device)
        ends[[i for i in end_ids if i < len(ends)]] = True
        self._ends = ends
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model
        accepted = inspect.signature(inner.forward).parameters
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}
        # Models without explicit positions (learned or relative from a 2D mask) fail the check at load.
        self._positions = "position_ids" in accepted
        self._reset()

    def _reset(self) -> None:
        def ints() -> torch.Tensor:
            return torch.zeros(self.slots, dtype=torch.int64, device=self.device)

        self._running: list[_Running | None] = [None] * self.slots
        self._refused: list[Sampled] = []
        self._position, self._count, self._stream, self._budget = ints(), ints(), ints(), ints()
        self._top_k, self._stop_set = ints(), ints()
        self._temperature = torch.zeros(self.slots, dtype=torch.float64, device=self.device)
        self._top_p = torch.ones(self.slots, dtype=torch.float64, device=self.device)
        self._penalty = torch.ones(self.slots, device=self.device)
        # Which tokens each row has seen, [slots, V]; made when a request wants a penalty.
        self._seen: torch.Tensor | None = None
        self._active = torch.zeros(self.slots, dtype=torch.bool, device=self.device)
        self._rows = torch.arange(self.slots, device=self.device)
        self._tokens = torch.zeros((self.slots, 128), dtype=torch.int64, device=self.device)
        self._logprobs = torch.zeros((self.slots, 128), device=self.device)
        self._use_logprobs = False
        self._use_top_k = self._use_top_p = self._use_stops = self._use_penalty = False

    def forget_prompts(self) -> None:
        """Drop prefilled prompts; needed whenever the weights change."""
        self._prefilled.clear()

    @torch.inference_mode()
    def prefill(self, ids: tuple[int, ...]) -> tuple[PromptKV, torch.Tensor]:
        """Keys and values of a prompt and the logits after it, [V]; prompts run one by one.

        A batch of prompts would need padding and make a row's numerics depend on the others.
        """
        found = self._prefilled.get(ids)
        if found is not None:
            self._prefilled.move_to_end(ids)
            return found
        cache = DynamicCache()
        tokens = torch.tensor([ids], device=self.device)
        extra: dict[str, Any] = dict(self._last_only)
        if self._positions:
            extra["position_ids"] = torch.arange(len(ids), device=self.device)[None]
        logits = self.model(input_ids=tokens, past_key_values=cache, use_cache=True, **extra).logits
        result = (prompt_kv(cache, len(ids)), logits[0, -1].float())
        self._prefilled[ids] = result
        while len(self._prefilled) > self._prompt_cache:
            self._prefilled.popitem(last=False)
        return result

    @torch.inference_mode()
    def step(
        self, tokens: torch.Tensor, positions: torch.Tensor, longest: int, live: Sequence[int] | None = None
    ) -> torch.Tensor:
        """Logits [slots, V] after one more token per row, written at `positions`.

        Args:
            live: Slots whose logits are wanted, None for all.
        """
        self.cache.begin_step(positions, longest, range(self.slots) if live is None else live)
        extra = {"position_ids": positions[:, None]} if self._positions else {}
        masks = self.cache.masks(self.config, self.model.dtype)
        logits = self.model(
            input_ids=tokens[:, None],
            attention_mask=masks,
            past_key_values=self.cache,
            use_cache=True,
            **extra,
        ).logits
        return logits[:, -1].float()

    # Not one `inference_mode` around the generator: it would leak into the consumer's code.
    def run(self, requests: Iterable[Request | None], stopping: Callable[[], bool]) -> Iterator[Sampled]:
        """Yield completions as they finish; see `Sampler.generate`."""
        waiting = iter(requests)
        self._reset()
        logits: torch.Tensor | None = None
        asking = True
        while not stopping():
            torch.set_num_threads(self.threads)
            if asking:
                logits = self._fill(waiting, logits)
                # A refused request is a finished one: the source may have waited for it.
                asking, refused = bool(self._refused), self._refused
                self._refused = []
                yield from refused
                if asking:
                    continue
            if logits is None or not any(self._running):
                return
            tokens, finished = self._advance(logits)
            # None of `requests` is "no more" or "nothing just now": only a completion can change that.
            asking = bool(finished)
            if finished:
                for slot, by_end in finished:
                    yield self._finish(slot, by_end)
                self._refresh_flags()
            if any(self._running):
                position = torch.where(self._active, self._position, 0)
                live = [slot for slot, running in enumerate(self._running) if running is not None]
                logits = self.step(torch.where(self._active, tokens, 0), position, int(position.max()), live)
                self._position += self._active

    @torch.inference_mode()
    def _fill(self, waiting: Iterator[Request | None], logits: torch.Tensor | None) -> torch.Tensor | None:
        """Start waiting requests in the free slots; their first logits come from the prefill."""
        changed = False
        for slot in range(self.slots):
            if self._running[slot] is not None:
                continue
            request = next(waiting, None)
            if request is None:
                break
            first = self._start(slot, request)
            if first is None:
                continue
            if logits is None:
                logits = first.new_zeros((self.slots, first.shape[0]))
            logits[slot] = first
            changed = True
        if changed:
            self._refresh_flags()
        return logits

    def _start(self, slot: int, request: Request) -> torch.Tensor | None:
        """Logits of the first token, or None if the request was refused."""
        params = request.params
        prompt = prompt_of(self.tokenizer, request.messages, request.continue_final)
        ids = tuple(prompt.ids)
        room = budget(request, len(ids), self.context)
        if not room:
            self._refused.append(no_room(request, len(ids), self.context))
            return None
        keys_values, logits = self.prefill(ids)
        self.cache.insert(slot, keys_values)
        self._running[slot] = _Running(request, params.stop, prompt)
        self._position[slot], self._count[slot] = len(ids), 0
        self._stream[slot], self._budget[slot] = stream(request.seed), room
        self._temperature[slot], self._top_k[slot] = params.temperature, params.top_k
        self._top_p[slot], self._stop_set[slot] = params.top_p, self._stops.index(params.stop)
        self._penalty[slot] = params.repetition_penalty
        if params.repetition_penalty != 1:
            if self._seen is None:
                shape = (self.slots, logits.shape[0])
                self._seen = torch.zeros(shape, dtype=torch.bool, device=self.device)
            self._seen[slot] = False
            self._seen[slot, list(ids)] = True
        self._active[slot] = True
        return logits

    def _refresh_flags(self) -> None:
        live = [running.request.params for running in self._running if running is not None]
        self._use_top_k = any(params.top_k for params in live)
        self._use_top_p = any(params.top_p < 1 for params in live)
        self._use_stops = any(params.stop for params in live)
        self._use_logprobs = any(params.logprobs for params in live)
        self._use_penalty = any(params.repetition_penalty != 1 for params in live)

    @torch.inference_mode()
    def _advance(self, logits: torch.Tensor) -> tuple[torch.Tensor, list[tuple[int, bool]]]:
        """Draw a token per row and find the rows that are done: (slot, ended by itself)."""
        seen = self._seen if self._use_penalty else None
        live = self._active.nonzero()[:, 0]
        drawn = draw(
            logits[live] if seen is None else penalized(logits[live], seen[live], self._penalty[live]),
            uniforms(self._stream[live], self._count[live]),
            self._temperature[live],
            self._top_k[live] if self._use_top_k else None,
            self._top_p[live] if self._use_top_p else None,
        )
        tokens = torch.zeros_like(self._stream).index_copy_(0, live, drawn)
        if seen is not None:
            seen[live, drawn] = True
        longest = int(self._count.max())
        if longest >= self._tokens.shape[1]:
            self._tokens = torch.cat([self._tokens, torch.zeros_like(self._tokens)], dim=1)
            self._logprobs = torch.cat([self._logprobs, torch.zeros_like(self._logprobs)], dim=1)
        self._tokens[self._rows, self._count] = tokens
        if self._use_logprobs:
            known = torch.log_softmax(logits[live], dim=-1).gather(1, drawn[:, None])[:, 0]
            self._logprobs[live, self._count[live]] = known
        self._count += self._active
        ended = self._ends[tokens] & self._active
        done = ended | ((self._count >= self._budget) & self._active)
        if self._use_stops:
            done = done | self._stop_hits(tokens, done)
        if not bool(done.any()):
            return tokens, []
        return tokens, [(slot, bool(ended[slot])) for slot in done.nonzero()[:, 0].tolist()]

    def _stop_hits(self, tokens: torch.Tensor, done: torch.Tensor) -> torch.Tensor:
        """Rows whose text now holds a stop string; decodes only where the new token could end one."""
        hits = torch.zeros_like(done)
        maybe = self._stops.may_end(self._stop_set, tokens) & self._active & ~done
        for slot in maybe.nonzero()[:, 0].tolist():
            running = self._running[slot]
            assert running is not None
            tail = self._stops.tail(running.stop)
            count = int(self._count[slot])
            if count > tail:
                recent = self._decode(self._tokens[slot, count - tail : count].tolist())
            else:
                recent = running.prompt.decode(self._tokens[slot, :count].tolist())
            if cut_at_stop(recent, running.stop) is not None:
                full = running.prompt.decode(self._tokens[slot, :count].tolist())
                hits[slot] = cut_at_stop(full, running.stop) is not None
        return hits

    def _finish(self, slot: int, by_end: bool) -> Sampled:
        running = self._running[slot]
        assert running is not None
        count = int(self._count[slot])
        text, cut, generated = completion(
            running.prompt,
            self._tokens[slot, :count].tolist(),
            ended=by_end,
            stop=running.stop,
            logprobs=self._logprobs[slot, :count].tolist() if running.request.params.logprobs else None,
        )
        self._running[slot] = None
        self._active[slot] = False
        self._count[slot] = self._top_k[slot] = self._stop_set[slot] = 0
        self._temperature[slot], self._top_p[slot], self._penalty[slot] = 0.0, 1.0, 1.0
        return Sampled(
            key=running.request.key,
            text=text,
            finish="stop" if by_end or cut else "length",
            tokens=count,
            meta=running.prompt.meta,
            generated=generated,
        )

    def _decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
