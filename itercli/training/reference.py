"""Log-probabilities of preference pairs under the frozen reference model.

They are computed by the reference model alone, before the policy is loaded, and kept in a file:
one model at a time is in memory, a resumed training does not compute them again, and the policy
never carries a second adapter. (TRL would copy a continued adapter as "ref" into its
checkpoints, where transformers then finds only that one and leaves the trained one as it began.)
"""

from __future__ import annotations

import dataclasses
import gc
import hashlib
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor

from itercli.recipe.seeds import digest
from itercli.training.base import Interrupted, TrainingError, TrainJob
from itercli.training.models import compute_dtype, load_model
from itercli.training.pairs import Pair, collate
from itercli.training.run import weights_dtype

log = logging.getLogger(__name__)


def load_reference(job: TrainJob) -> Any:
    """The reference model, frozen, on the GPU if there is one, with TRL's fused head.

    When an adapter is trained, the reference's adapter is not merged either: a policy that
    starts from the reference then gives the same numbers.

    Raises:
        TrainingError: The job has none.
    """
    from trl.trainer.utils import add_fused_lm_head

    ref, spec = job.reference, job.training
    if ref is None:
        raise TrainingError("method 'dpo' needs a reference model; set reference: initial or previous")
    lora = spec.lora if spec.tuning == "lora" and ref.adapter is not None else None
    model = load_model(ref, dtype=weights_dtype(spec), lora=lora, trainable=False)
    add_fused_lm_head(model if lora is None else model.get_base_model())
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


@torch.no_grad()
def pair_logprobs(model: Any, batch: dict[str, Tensor], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Summed log-probabilities of the chosen and of the rejected answers, [pairs] each, in nats.

    Args:
        model: With TRL's fused head, in evaluation mode.
        batch: See `collate`.
        dtype: bfloat16 runs under autocast, as training does.
    """
    ids, mask = batch["input_ids"], batch["attention_mask"]
    labels = ids.masked_fill(batch["completion_mask"] == 0, -100)
    with torch.autocast(ids.device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
        output = model(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False, fused_lm_head=True)
    chosen, rejected = output.log_probs.float().sum(dim=1).chunk(2)
    return chosen, rejected


def with_reference(job: TrainJob, pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs with their reference log-probabilities, from the file if they are there.

    Raises:
        Interrupted: `job.stopping()` became true; what there is was saved.
    """
    # Beside the checkpoints, so that it is no part of the model: the order of a header varies.
    path = job.work / "checkpoints" / "reference.safetensors"
    identity = _identity(job, pairs)
    values = _load(path, identity, len(pairs))
    # Batches are cut from all pairs, done or not: the last bits depend on the padding.
    order = sorted(range(len(pairs)), key=lambda i: -pairs[i].length)
    size = job.training.micro_batch_size
    batches = [order[i : i + size] for i in range(0, len(order), size)]
    todo = [batch for batch in batches if np.isnan(values[batch]).any()]
    if todo:
        model, dtype = load_reference(job), compute_dtype(job.training.dtype)
        saved = time.monotonic()
        for n, batch in enumerate(todo):
            if job.stopping():
                _save(path, identity, values)
                raise Interrupted(f"stopped with {n} of {len(todo)} batches run by the reference model")
            columns = collate([pairs[i] for i in batch], model.device)
            values[batch] = torch.stack(pair_logprobs(model, columns, dtype), dim=1).cpu().numpy()
            job.prepared(int((~np.isnan(values[:, 0])).sum()), len(pairs), "reference pairs")
            if time.monotonic() - saved > job.training.checkpoint_seconds:
                _save(path, identity, values)
                saved = time.monotonic()
        if not np.isfinite(values).all():
            raise TrainingError(
                f"the reference model {job.reference and job.reference.version} gives log-probabilities "
                "that are not finite; check its weights"
            )
        _save(path, identity, values)
        del model
        gc.collect()  # a PEFT model is a cycle; its memory is needed for the policy
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return [
        dataclasses.replace(pair, reference=(float(chosen), float(rejected)))
        for pair, (chosen, rejected) in zip(pairs, values, strict=True)
    ]


def _identity(job: TrainJob, pairs: Sequence[Pair]) -> str:
    """Which model and which token ids the values are of."""
    state = hashlib.sha256()
    for pair in pairs:
        state.update(repr((pair.prompt, pair.chosen, pair.rejected)).encode())
    return digest(
        {
            "format": 1,
            "reference": job.reference.digest if job.reference else None,
            "dtype": [str(compute_dtype(job.training.dtype)), str(weights_dtype(job.training))],
            "pairs": state.hexdigest(),
        }
    )


def _load(path: Path, identity: str, count: int) -> np.ndarray:
    """[count, 2] values of an earlier attempt; NaN where there are none."""
    try:
        with safe_open(path, framework="numpy") as file:
            metadata, values = file.metadata() or {}, file.get_tensor("logprobs")
    except FileNotFoundError:
        return np.full((count, 2), np.nan, np.float32)
    except (OSError, SafetensorError) as error:
        log.warning("ignoring %s: %s", path, error)
        return np.full((count, 2), np.nan, np.float32)
    if metadata.get("identity") != identity or metadata.get("sha256") != _sha256(values):
        log.warning("ignoring %s: it has changed, or belongs to other pairs or another model", path)
        return np.full((count, 2), np.nan, np.float32)
    return values


def _save(path: Path, identity: str, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        file.write(save({"logprobs": values}, {"identity": identity, "sha256": _sha256(values)}))
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)


def _sha256(values: np.ndarray) -> str:
    return hashlib.sha256(values.tobytes()).hexdigest()
