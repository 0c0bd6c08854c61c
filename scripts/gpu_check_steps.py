"""The steps of gpu_check.py; each runs in a process of its own."""

from __future__ import annotations

import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from itercli.models import folder_digest
from itercli.models.known import TINY_RTL
from itercli.records import Message, ModelRef, RankedExample
from itercli.sampling.base import Request, Sampler, SamplingParams

if TYPE_CHECKING:
    from gpu_check import Size

VOCABULARY, PAD, END = 1024, 0, 1
GIB = 1 << 30


class Steps:
    """What gpu_check.py can run, with the folder that steps share.

    Args:
        work: Holds `model` and, after the LoRA step, `adapter`.
        size: How large the model and the work are.
        device: "cuda" or "cpu".
    """

    def __init__(self, work: Path, size: Size, device: str) -> None:
        self.work, self.size, self.device = work, size, device

    def run(self, step: str) -> dict[str, Any]:
        """Run a step; returns tokens per second, peak memory and a note as far as it has them."""
        return getattr(self, step.replace("-", "_"))()

    def model(self) -> dict[str, Any]:
        """A random Llama with the tokenizer of the shipped model."""
        from transformers import LlamaConfig, LlamaForCausalLM

        heads = self.size.hidden // 64
        config = LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=self.size.hidden,
            intermediate_size=self.size.hidden * 4,
            num_hidden_layers=self.size.layers,
            num_attention_heads=heads,
            num_key_value_heads=heads // 4 if heads % 4 == 0 else heads,
            max_position_embeddings=2048,
            tie_word_embeddings=True,
            pad_token_id=PAD,
            eos_token_id=END,
            bos_token_id=None,
        )
        torch.manual_seed(0)
        model: Any = LlamaForCausalLM(config)
        model.to(torch.bfloat16).save_pretrained(self.work / "model")
        for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
            if (TINY_RTL / name).is_file():
                shutil.copy(TINY_RTL / name, self.work / "model")
        return {"note": f"{model.num_parameters() / 1e6:,.1f}M parameters, bfloat16"}

    def sample(self) -> dict[str, Any]:
        """Completions by the built-in sampler, and whether seeds repeat them."""
        sampler, _ = self._transformers()
        sampler.load(self._ref())
        first, rate = self._draw(sampler)
        again, _ = self._draw(sampler)
        same = sum(first[key] == again[key] for key in first)
        note = f"{len(first)} completions; drawn again: {same} the same"
        return {"tokens_per_s": rate, "peak_gib": self._peak(), "note": note}

    def train_lora(self) -> dict[str, Any]:
        """LoRA with the ranking loss over four candidates of each prompt."""
        from itercli.training.methods import Ranking

        return self._train(Ranking(), "lora")

    def train_full(self) -> dict[str, Any]:
        """All weights, supervised."""
        from itercli.training.methods import Sft

        return self._train(Sft(), "full")

    def switch(self) -> dict[str, Any]:
        """Base, adapter, base again, in the built-in sampler; its probe proves each switch."""
        sampler, _ = self._transformers()
        return self._switch(sampler, self._peak)

    def vllm(self) -> dict[str, Any]:
        """Completions by vLLM."""
        sampler = self._vllm("merge")
        started = time.perf_counter()
        sampler.load(self._ref())
        start = time.perf_counter() - started
        self._draw(sampler)  # the first batch pays for compilation
        texts, rate = self._draw(sampler)
        row = {"tokens_per_s": rate, "peak_gib": self._in_use()}
        sampler.close()
        return {
            **row,
            "note": f"{len(texts)} completions; engine start {start:.0f} s; memory: what it reserves",
        }

    def vllm_switch(self) -> dict[str, Any]:
        """Base, adapter, base again in vLLM, by reloading merged weights."""
        return self._switch(self._vllm("merge"), self._in_use)

    def vllm_lora(self) -> dict[str, Any]:
        """Base, adapter, base again in vLLM, as a LoRA request."""
        return self._switch(self._vllm("lora"), self._in_use)

    def _switch(self, sampler: Sampler, memory: Callable[[], float | None]) -> dict[str, Any]:
        base = self._ref()
        tuned = self._ref(adapter=True)
        reports = [sampler.load(ref) for ref in (base, tuned)]
        _, rate = self._draw(sampler)
        reports.append(sampler.load(base))
        there, back = (float(report["seconds"]) for report in reports[1:])
        row = {"tokens_per_s": rate, "peak_gib": memory()}
        sampler.close()
        return {
            **row,
            "note": f"to the adapter {there:.2f} s, back {back:.2f} s; probe {reports[1].get('probe')}",
        }

    def _train(self, method: Any, tuning: str) -> dict[str, Any]:
        from itercli.training.base import TrainingSpec, TrainJob

        times: list[float] = []
        losses: list[float] = []

        def report(done: int, steps: int, metrics: dict[str, float]) -> None:
            times.append(time.perf_counter())
            losses.append(metrics.get("loss", float("nan")))

        out = self.work / f"out-{tuning}"
        job = TrainJob(
            examples=list(self._examples()),
            start=self._ref(),
            reference=None,
            training=TrainingSpec.model_validate(
                {"tuning": tuning, "lr": 1e-4, "batch_size": self.size.batch, "epochs": 2, "max_length": 2048}
            ),
            seed=0,
            work=self.work / f"scratch-{tuning}",
            out=out,
            stopping=lambda: False,
            report=report,
        )
        result = method.train(job)
        if tuning == "lora":
            shutil.move(out / "adapter", self.work / "adapter")
        # The first step warms up kernels, so the rate is that of the steps after it.
        rate = result.metrics["tokens"] * (len(times) - 1) / len(times) / (times[-1] - times[0])
        note = f"{result.steps} steps, loss {losses[0]:.3f} -> {losses[-1]:.3f}"
        return {"tokens_per_s": rate, "peak_gib": self._peak(), "note": note}

    def _transformers(self) -> tuple[Sampler, Any]:
        from itercli.sampling.specs import TransformersSpec

        spec = TransformersSpec.model_validate(
            {"device": self.device, "batch_size": max(8, self.size.prompts)}
        )
        return spec.build(), spec

    def _vllm(self, adapter: str) -> Sampler:
        from itercli.sampling.specs import VllmSpec

        options = {"adapter": adapter, "batch_size": self.size.prompts, "max_model_len": 1024}
        if self.device == "cpu":
            options |= {"compile": False, "kv_cache_gib": 1}
        return VllmSpec.model_validate(options).build()

    def _ref(self, adapter: bool = False) -> ModelRef:
        base = self.work / "model"
        digest = folder_digest(base)
        if not adapter:
            return ModelRef(base=str(base), version="policy@0", digest=digest)
        folder = self.work / "adapter"
        return ModelRef(base=str(base), adapter=str(folder), version="policy@1", digest=folder_digest(folder))

    def _draw(self, sampler: Sampler) -> tuple[dict[tuple[str, int], str], float]:
        """All completions by key, and tokens per second."""
        params = SamplingParams(temperature=1.0, max_new_tokens=self.size.new_tokens)
        requests = [
            Request(key=(f"p{i}", 0), messages=tuple(self._messages(i)), seed=i, params=params)
            for i in range(self.size.prompts)
        ]
        started = time.perf_counter()
        drawn = list(sampler.generate(requests, lambda: False))
        seconds = time.perf_counter() - started
        broken = [d for d in drawn if d.finish == "error"]
        if broken or len(drawn) != len(requests):
            raise RuntimeError(f"{len(drawn)} of {len(requests)} completions, {len(broken)} with errors")
        return {d.key: d.text for d in drawn}, sum(d.tokens for d in drawn) / seconds

    def _messages(self, i: int) -> list[Message]:
        return [
            Message(role="user", content=f"Task {i}: " + "write a counter with reset. " * self.size.words)
        ]

    def _examples(self) -> Iterator[RankedExample]:
        for i in range(self.size.examples):
            lines = [f"assign q{j} = d{(i + j) % 7} ^ e;\n" for j in range(self.size.words)]
            responses = ["".join(lines[: len(lines) - k]) for k in range(4)]
            yield RankedExample(
                prompt_id=f"p{i}",
                messages=self._messages(i),
                responses=responses,
                scores=[1.0, 0.6, 0.3, 0.0],
                target=0,
            )

    def _peak(self) -> float:
        if self.device == "cuda":
            return torch.cuda.max_memory_allocated() / GIB
        # Linux counts in KiB, macOS in bytes.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
            GIB if sys.platform == "darwin" else 1 << 20
        )

    def _in_use(self) -> float | None:
        """Memory taken on the GPU by all processes: vLLM's engine is a child."""
        if self.device != "cuda":
            return None
        free, total = torch.cuda.mem_get_info()
        return (total - free) / GIB
