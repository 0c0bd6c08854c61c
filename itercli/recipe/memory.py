"""Memory that the stages of a plan need, estimated before anything is loaded.

Weights, gradients and optimizer states are counted; activations are the estimate of Korthikanti et
al. (2022, arXiv 2205.05198) without attention scores: 34 bytes for each token and hidden unit of
a layer, or 2 where layers are computed again (`gradient_checkpointing`) with one layer at a time in
full. Logits are float32, with their gradient. Of sampling the weights alone are counted: its
cache takes what is left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from itercli.models.size import Size, model_size
from itercli.records import PreferencePair
from itercli.resources import Resources, settle_dtype
from itercli.training.base import LoraSpec, TrainingSpec

if TYPE_CHECKING:
    from itercli.recipe.plan import Plan

GIB = 2**30
# Bytes of optimizer state for a trained weight; Adafactor keeps a row and a column of each matrix.
STATES = {"adamw": 8, "rmsprop": 4, "adagrad": 4, "adafactor": 0, "sgd": 0}


@dataclass(frozen=True, slots=True)
class Need:
    """What a stage needs.

    Attributes:
        stage: Its name.
        model: As the recipe names it.
        bytes: The estimate; None if the size of the model is not known.
        parts: Name -> bytes of each part.
        about: The model and how it is trained, in words.
    """

    stage: str
    model: str
    bytes: int | None
    parts: dict[str, int]
    about: str = ""

    def to_json(self) -> dict[str, Any]:
        """The entry in `itercli.plan/1`."""
        return {"stage": self.stage, "model": self.model, "bytes": self.bytes, "parts": self.parts}


def needs(plan: Plan) -> list[Need]:
    """Of each training and sampling stage, the largest of its iterations, in the plan's order."""
    found: dict[str, Need] = {}
    for node in plan.nodes.values():
        training = getattr(node.stage, "training", None)
        slot = next((s for s in ("start", "policy", "model") if s in node.models), None)
        if slot is None:
            continue
        role = node.models[slot].role
        root, spec = plan.roots.get(role), plan.recipe.config.roles[role]
        if root is None or root.source == "served":
            continue
        size = model_size(spec.path, root.path)
        if isinstance(training, TrainingSpec):
            method = getattr(node.stage, "method", None)
            several = 2 if getattr(method, "EXAMPLES", None) is PreferencePair else 1
            need = _training(node.name, spec.path, size, training, several, plan.resources)
        elif (sampler := getattr(node.stage, "sampler", None)) is not None:
            dtype = str(getattr(sampler, "dtype", "auto"))
            if sampler.NAME != "vllm":  # whose auto is half precision everywhere
                dtype = settle_dtype(dtype, plan.resources)
            need = _weights(node.name, spec.path, size, 4 if dtype == "float32" else 2)
        else:
            continue
        known = found.get(node.name)
        if known is None or (need.bytes or 0) > (known.bytes or 0):
            found[node.name] = need
    return list(found.values())


def notes(plan: Plan, found: list[Need]) -> list[str]:
    """Stages that need more than the device has, with the way out."""
    memory, device = plan.resources.memory, "GPU" if plan.resources.cuda else "machine"
    too_much: dict[tuple[int, str], list[Need]] = {}
    for need in found:
        if memory and (need.bytes or 0) > memory:
            too_much.setdefault((need.bytes or 0, need.model), []).append(need)
    lines = []
    for (size, _), alike in too_much.items():
        need = alike[0]
        parts = ", ".join(f"{name} {_gib(size)}" for name, size in need.parts.items())
        stages = ", ".join(n.stage for n in alike)
        line = f"{stages}: about {_gib(size)} GiB of memory ({parts}; {need.about}), "
        line += f"and this {device} has {_gib(memory)}"
        if need.parts.get("gradients") and "adapter" not in need.about:
            line += ". Training runs on one device (no DeepSpeed, no FSDP): trainer=lora needs far less"
        lines.append(line)
    return lines


def summary(found: list[Need]) -> str:
    """One line: `memory, estimated in GiB: sample 13.5, train 91.2; unknown: reward (org/name)`."""
    known = {n.stage: _gib(n.bytes) for n in found if n.bytes is not None}
    unknown = [f"{n.stage} ({n.model})" for n in found if n.bytes is None]
    parts = [", ".join(f"{stage} {size}" for stage, size in known.items())] if known else []
    parts += [f"unknown: {', '.join(unknown)}"] if unknown else []
    return f"memory, estimated in GiB: {'; '.join(parts)}" if parts else ""


def _training(
    stage: str, model: str, size: Size | None, spec: TrainingSpec, several: int, resources: Resources
) -> Need:
    if size is None:
        return Need(stage, model, None, {})
    half = settle_dtype(spec.dtype, resources) == "bfloat16"
    full = spec.tuning == "full"
    trained = size.parameters if full else adapter_size(size, spec.lora)
    # All weights are trained in float32; under an adapter they are of the type that is computed in.
    weights = size.parameters * (4 if full or not half else 2) + (0 if full else 4 * trained)
    tokens = spec.micro_batch_size * several * spec.max_length
    a_layer = 34 * tokens * size.hidden * (1 if half else 2)
    if spec.gradient_checkpointing:
        activations = a_layer + size.layers * tokens * size.hidden * (2 if half else 4)
    else:
        activations = size.layers * a_layer + (2 * size.parameters if full and half else 0)
    parts = {
        "weights": weights,
        "gradients": 4 * trained,
        "optimizer": STATES[spec.optimizer] * trained,
        "activations": activations + 8 * tokens * size.vocabulary,
    }
    how = "all of them trained" if full else f"an adapter of {trained / 1e6:.0f} million trained"
    about = f"{size.parameters / 1e9:.2f} billion parameters, {how} by {spec.optimizer}"
    return Need(stage, model, sum(parts.values()), parts, about)


def _weights(stage: str, model: str, size: Size | None, width: int) -> Need:
    if size is None:
        return Need(stage, model, None, {})
    weights = size.parameters * width
    return Need(
        stage, model, weights, {"weights": weights}, f"{size.parameters / 1e9:.2f} billion parameters"
    )


def adapter_size(size: Size, lora: LoraSpec) -> int:
    """Weights of a LoRA adapter on all linear layers: at most, where heads share keys and values."""
    a_layer = 4 * 2 * size.hidden + 3 * (size.hidden + size.intermediate)
    return lora.r * a_layer * min(size.layers, lora.last_layers or size.layers)


def _gib(size: int) -> str:
    return f"{size / GIB:.1f}" if size < 100 * GIB else f"{size / GIB:.0f}"
