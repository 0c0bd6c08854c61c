"""Write a Llama model with a byte-level BPE tokenizer as a GGUF file, unquantised.

llama.cpp's own converter knows every architecture, but is no package; what is written here
follows it (`LlamaModel` in convert_hf_to_gguf.py) for the one family whose result can be
verified without it, by transformers' own reader. Everything else is refused with the
converter's command.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itercli.handover.versions import HandoverError

if TYPE_CHECKING:
    from gguf import GGUFWriter
    from torch import Tensor

# How text is cut before BPE merges it, by the names that llama.cpp has for it.
_SPLITS = {
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
    r"\s+(?!\S)|\s+": "llama-bpe",
}


def check_gguf(folder: Path) -> None:
    """Refuse a model that can't be written, before any work.

    Raises:
        HandoverError: Another architecture or tokenizer; the message has llama.cpp's command.
    """
    config = json.loads((folder / "config.json").read_text("utf-8"))
    architectures = config.get("architectures") or []
    if architectures != ["LlamaForCausalLM"]:
        raise _refused(f"the architecture is {', '.join(architectures) or 'unknown'}, not LlamaForCausalLM")
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if rope.get("rope_type", rope.get("type", "default")) != "default":
        raise _refused("its rotary embedding is scaled")
    if config.get("attention_bias") or config.get("mlp_bias"):
        raise _refused("its layers have biases")
    pre_tokenizer(folder)


def pre_tokenizer(folder: Path) -> str:
    """llama.cpp's name for how the tokenizer cuts text.

    Raises:
        HandoverError: It is no byte-level BPE, or none that is known here.
    """
    try:
        content = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    except FileNotFoundError:
        raise _refused("it has no tokenizer.json") from None
    pre = content.get("pre_tokenizer") or {}
    steps = pre.get("pretokenizers") or [pre]
    kinds = [step.get("type") for step in steps]
    last = steps[-1]
    plain = last.get("type") == "ByteLevel" and not last.get("add_prefix_space")
    if content["model"].get("type") == "BPE" and content.get("normalizer") is None and plain:
        regex = last.get("use_regex", True)
        if kinds == ["ByteLevel"] and regex:
            return "gpt-2"
        if kinds == ["Digits", "ByteLevel"] and regex and steps[0].get("individual_digits"):
            return "smollm"
        if kinds == ["Split", "ByteLevel"] and not regex:
            known = _SPLITS.get(steps[0].get("pattern", {}).get("Regex", ""))
            if known and steps[0].get("behavior") == "Isolated":
                return known
    raise _refused("its tokenizer is none of the byte-level BPE ones that are known here")


def write_gguf(folder: Path, path: Path) -> None:
    """Write a model folder in transformers' format as one file, in the dtype of its weights.

    Raises:
        HandoverError: See `check_gguf`; or a tensor that has no place in the format.
    """
    from gguf import MODEL_ARCH, GGUFWriter

    check_gguf(folder)
    writer = GGUFWriter(path, "llama")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    _hyperparameters(writer, config, folder.name)
    _tokenizer(writer, folder, config["vocab_size"])
    _tensors(writer, folder, config, MODEL_ARCH.LLAMA)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _refused(why: str) -> HandoverError:
    return HandoverError(
        f"no GGUF file of this model: {why}. Export it without --gguf, and in a checkout of llama.cpp run "
        "`python convert_hf_to_gguf.py EXPORTED_FOLDER`"
    )


def _hyperparameters(writer: GGUFWriter, config: dict[str, Any], name: str) -> None:
    heads = config["num_attention_heads"]
    head = config.get("head_dim") or config["hidden_size"] // heads
    writer.add_name(name.strip("."))
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.get("num_key_value_heads") or heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    rope = config.get("rope_parameters") or {}
    writer.add_rope_freq_base(rope.get("rope_theta") or config.get("rope_theta") or 10000.0)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])


def _tokenizer(writer: GGUFWriter, folder: Path, size: int) -> None:
    from gguf import SpecialVocab, TokenType
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    by_id = {i: token for token, i in tokenizer.get_vocab().items()}
    added = tokenizer.added_tokens_decoder
    tokens, types = [], []
    for i in range(size):
        if i not in by_id:  # rows of the embedding that no token uses
            tokens.append(f"[PAD{i}]")
            types.append(TokenType.UNUSED)
            continue
        tokens.append(by_id[i])
        special = TokenType.CONTROL if i in added and added[i].special else TokenType.USER_DEFINED
        types.append(special if i in added else TokenType.NORMAL)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre_tokenizer(folder))
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    SpecialVocab(folder, load_merges=True, n_vocab=size).add_to_gguf(writer, quiet=True)
    known = writer.kv_data[0]
    if tokenizer.chat_template and "tokenizer.chat_template" not in known:
        writer.add_chat_template(tokenizer.chat_template)
    if "tokenizer.ggml.add_bos_token" not in known:
        writer.add_add_bos_token(tokenizer("a").input_ids[:1] == [tokenizer.bos_token_id])


def _tensors(writer: GGUFWriter, folder: Path, config: dict[str, Any], arch: Any) -> None:
    import torch
    from gguf import GGMLQuantizationType, LlamaFileType, get_tensor_name_map
    from safetensors import safe_open

    names = get_tensor_name_map(arch, config["num_hidden_layers"])
    heads = config["num_attention_heads"]
    turned = {"q_proj": heads, "k_proj": config.get("num_key_value_heads") or heads}
    wide = GGMLQuantizationType.F32
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (not a mapping)
                tensor = tensors.get_tensor(name)
                if name == "lm_head.weight" and config.get("tie_word_embeddings"):
                    continue
                new = names.get_name(name, try_suffixes=(".weight",))
                if new is None:
                    raise _refused(f"tensor {name} has no place in a Llama")
                part = name.split(".")[-2]
                if part in turned:
                    tensor = _interleaved(tensor, turned[part])
                # Vectors are float32 whatever the rest is; numpy knows no bfloat16, so its bytes are given.
                if tensor.ndim == 1 or tensor.dtype == torch.float32:
                    writer.add_tensor(new, tensor.float().numpy())
                elif tensor.dtype == torch.float16:
                    wide = GGMLQuantizationType.F16
                    writer.add_tensor(new, tensor.numpy())
                else:
                    wide = GGMLQuantizationType.BF16
                    data = tensor.bfloat16().contiguous().view(torch.uint8).numpy()
                    writer.add_tensor(new, data, raw_dtype=wide)
    writer.add_file_type(LlamaFileType["ALL_F32" if wide.name == "F32" else f"MOSTLY_{wide.name}"])


def _interleaved(weight: Tensor, heads: int) -> Tensor:
    """[heads * head, in] with the halves of each head interleaved, as llama.cpp rotates them."""
    head = weight.shape[0] // heads
    return weight.reshape(heads, 2, head // 2, -1).swapaxes(1, 2).reshape(weight.shape).contiguous()
