"""The built-in sampler: any decoder of transformers, on CPU or one GPU."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from transformers.utils import logging as transformers_logging

from itercli.models.load import load_base, load_tokenizer
from itercli.models.spec import ModelError
from itercli.records import Message, ModelRef
from itercli.resources import settle_dtype, this_machine
from itercli.sampling.base import Request, Sampled, SamplerError
from itercli.sampling.decoder import Decoder
from itercli.sampling.policies import by_version, distinct
from itercli.sampling.probe import PROBE_TEXT, Probe
from itercli.sampling.prompting import encode_prompt, end_token_ids
from itercli.sampling.router import route
from itercli.sampling.slots import ATTENTION, STRIDE, check_slottable
from itercli.sampling.specs import TransformersSpec
from itercli.sampling.weights import Adapters, architecture, check_folder, load_in_place, weights_differ

# Below this many parameters a second thread costs more in hand-over than it computes.
_ONE_THREAD_BELOW = 20_000_000


class TransformersSampler:
    """See `itercli.sampling.base.Sampler`.

    Further policies live in samplers of their own beside this one, each with a copy of the
    weights; these are kept for the next `load` with as many.

    Args:
        spec: Options from the recipe.
    """

    def __init__(self, spec: TransformersSpec) -> None:
        self.spec = spec
        # One bar per load would fill the worker's log.
        transformers_logging.disable_progress_bar()
        cuda = torch.cuda.is_available()
        if spec.device == "cuda" and not cuda:
            raise SamplerError("device=cuda, but torch finds no CUDA GPU; use device=auto or cpu")
        self.device = torch.device("cuda" if cuda and spec.device != "cpu" else "cpu")
        here = replace(this_machine(), cuda="torch" if self.device.type == "cuda" else "")
        self.dtype = getattr(torch, settle_dtype(spec.dtype, here))
        merge = spec.adapter == "merge" or (spec.adapter == "auto" and self.dtype == torch.float32)
        # Multiples of 8: smaller or odd batches make MKL treat rows differently with several threads.
        self.slots = -(-spec.batch_size // 8) * 8
        self._adapters = Adapters(merge)
        exact = self.device.type == "cpu" and self.dtype == torch.float32
        self._probe = Probe(0.0 if exact else 0.1, weights_differ)
        self._model: Any = None
        self._tokenizer: Any = None
        self._decoder: Decoder | None = None
        self._loaded: ModelRef | None = None
        self._base_only_digest: dict[str, str] = {}
        self._threads = 1
        self._others: list[TransformersSampler] = []
        self._policies: dict[str | None, TransformersSampler] = {}

    def load(self, model: ModelRef, *others: ModelRef) -> dict[str, Any]:
        self._policies = {}
        refs = list(distinct(model, *others).values())
        for ref in refs:
            check_folder(ref)
        report = self._load(model)
        served = {model.digest: self}
        reports = []
        for ref in refs[1:]:
            served[ref.digest] = beside = self._beside(ref, [r.digest for r in refs])
            reports.append({"version": ref.version, **beside._load(ref)})
        self._policies = by_version(served, model, *others)
        return report | ({"others": reports} if reports else {})

    def _beside(self, ref: ModelRef, wanted: list[str]) -> TransformersSampler:
        """The sampler for a further policy: one that has it, one that is free, or a new one."""

        def digest(sampler: TransformersSampler) -> str | None:
            return sampler._loaded.digest if sampler._loaded is not None else None

        for choice in (
            (one for one in self._others if digest(one) == ref.digest),
            (one for one in self._others if digest(one) not in wanted),
        ):
            found = next(choice, None)
            if found is not None:
                return found
        new = TransformersSampler(self.spec)
        # One memory for all: it compares a policy with those beside it and with its own past.
        new._probe = self._probe
        self._others.append(new)
        return new

    def _load(self, model: ModelRef) -> dict[str, Any]:
        """Make `model` the policy of this very sampler."""
        started = time.perf_counter()
        if self._loaded is not None and self._loaded.digest == model.digest:
            self._loaded = model
            return {"switch": "none", "seconds": 0.0}
        report: dict[str, Any] = {}
        # Until the end of this method no policy is loaded: a failure must not leave a half switch.
        previous, self._loaded, self._decoder = self._loaded, None, None
        report["switch"] = self._switch_base(model, previous)
        torch.set_num_threads(self._threads)  # a setting of the process; the probe's bits depend on it
        if model.adapter is not None:
            self._model = self._adapters.apply(self._model, model.adapter)
            report["adapter"] = "merged" if self._adapters.merge else "attached"
        else:
            self._base_only_digest[model.base] = model.digest
        decoder = self._new_decoder()
        if report["switch"] == "loaded":
            report.update(self._check_slots(decoder))
        report["probe"] = self._probe.check(model, self._fingerprint())
        report.update(device=str(self.device), dtype=str(self.dtype).removeprefix("torch."))
        report.update(threads=torch.get_num_threads(), slots=self.slots)
        self._loaded, self._decoder = model, decoder
        report["seconds"] = round(time.perf_counter() - started, 3)
        return report

    def _switch_base(self, new: ModelRef, old: ModelRef | None) -> str:
        """Bring the base weights of `new` into place without an adapter; says how."""
        if self._model is not None:
            lost = self._adapters.base_lost
            self._model = self._adapters.remove(self._model)
            self._adapters.base_lost = False
            if old is not None and not lost and architecture(old.base) == architecture(new.base):
                changed_on_disk = (
                    new.adapter is None and self._base_only_digest.get(new.base, new.digest) != new.digest
                )
                if old.base == new.base and not changed_on_disk:
                    return "kept"
                if load_in_place(self._model, new.base):
                    self._tokenizer = self._load_tokenizer(new)
                    return "in place"
        self._load_base(new)
        return "loaded"

    def _load_tokenizer(self, ref: ModelRef) -> Any:
        try:
            return load_tokenizer(ref)
        except ModelError as error:
            raise SamplerError(str(error)) from error

    def _load_base(self, ref: ModelRef) -> None:
        self._free()
        self._tokenizer = self._load_tokenizer(ref)
        try:
            model = load_base(ref, self.dtype)
        except ModelError as error:
            raise SamplerError(str(error)) from error
        check_slottable(model)
        text = model.config.get_text_config()
        # Only where transformers itself would use SDPA: others need their own attention.
        if text._attn_implementation == "sdpa" and getattr(model, "_supports_attention_backend", False):
            model.set_attn_implementation(ATTENTION)
        model.to(device=self.device).eval().requires_grad_(False)
        self._model = model
        threads = self.spec.threads
        if threads == 0:
            small = sum(p.numel() for p in model.parameters()) < _ONE_THREAD_BELOW
            threads = 1 if small else len(os.sched_getaffinity(0))
        self._threads = threads

    def _new_decoder(self) -> Decoder:
        config = self._model.config.get_text_config()
        limit = getattr(config, "max_position_embeddings", None)
        ends = end_token_ids(self._tokenizer, getattr(self._model, "generation_config", None))
        return Decoder(
            self._model,
            self._tokenizer,
            ends,
            self.slots,
            int(limit) if limit else None,
            self.spec.prompt_cache,
            self._threads,
        )

    def _probe_ids(self) -> list[int]:
        ids = self._tokenizer(PROBE_TEXT, add_special_tokens=False)["input_ids"]
        # A tokenizer may know none of the characters.
        return (list(ids) or [0])[:48] if len(ids) > 1 else [0, 1, 2, 3]

    @torch.inference_mode()
    def _fingerprint(self) -> np.ndarray:
        """Log-probs after the probe prompt, [V]."""
        tokens = torch.tensor([self._probe_ids()], device=self.device)
        logits = self._model(input_ids=tokens, use_cache=False).logits[0, -1]
        return torch.log_softmax(logits.float(), dim=-1).cpu().numpy()

    @torch.inference_mode()
    def _check_slots(self, decoder: Decoder) -> dict[str, Any]:
        """Show on the loaded model that decoding in slots gives what the model itself gives.

        Returns:
            `batch_invariant`: whether all slots and KV lengths gave the same bits.

        Raises:
            SamplerError: The architecture does something that slots don't reproduce.
        """
        ids = self._probe_ids()
        plain = self._model(input_ids=torch.tensor([ids], device=self.device), use_cache=False).logits[0, -1]
        tokens = torch.full((self.slots,), ids[-1], device=self.device)
        where = torch.full_like(tokens, len(ids) - 1)
        try:
            keys_values, _ = decoder.prefill(tuple(ids[:-1]))
            for slot in range(self.slots):
                decoder.cache.insert(slot, keys_values)
            short = decoder.step(tokens, where, len(ids) - 1)
            long = decoder.step(tokens, where, len(ids) - 1 + 4 * STRIDE)
        except SamplerError:
            raise
        except Exception as error:  # any architecture may end up here, and fail in its own way
            raise SamplerError(
                f"{type(self._model).__name__} can't be decoded in slots ({error!r}); "
                "use sampler=vllm or openai"
            ) from error
        off = float((short[0] - plain.float()).abs().max() / plain.float().std().clamp(min=1e-6))
        if not off < (0.01 if self.dtype == torch.float32 else 0.5):
            raise SamplerError(
                f"{type(self._model).__name__} can't be decoded in slots (its logits are off by {off:.3g} "
                "standard deviations); use sampler=vllm or openai"
            )
        decoder.forget_prompts()
        return {"batch_invariant": bool((short == short[:1]).all() and (long == short[:1]).all())}

    def measure(self, messages: Sequence[Message]) -> tuple[int, int | None]:
        assert self._decoder is not None
        return len(encode_prompt(self._tokenizer, messages)), self._decoder.context

    def generate(self, requests: Iterable[Request | None], stopping: Callable[[], bool]) -> Iterator[Sampled]:
        if not self._policies:
            raise SamplerError("no policy is loaded; call load() first")
        runs = {version: one._decoder.run for version, one in self._policies.items() if one._decoder}
        return route(runs, requests, stopping)

    def _free(self) -> None:
        self._model = self._decoder = self._loaded = None
        merge = self._adapters.merge
        self._adapters = Adapters(merge)
        self._base_only_digest.clear()
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def close(self) -> None:
        for other in self._others:
            other.close()
        self._others, self._policies = [], {}
        self._free()
        self._tokenizer = None
