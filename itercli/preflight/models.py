"""Whether the models' folders hold what sampling from them and training them needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from itercli.models.inspection import inspect_model
from itercli.recipe.errors import Problem
from itercli.recipe.plan import Node, Plan
from itercli.sampling.base import SamplerSpec


def problems(nodes: Iterable[Node], plan: Plan) -> Iterator[Problem]:
    """What is wrong with the start models that these stages sample from, on this machine."""
    for role in sorted({use.role for node in nodes if _samples_here(node) for use in node.models.values()}):
        path, spec = plan.roots[role].path, plan.recipe.config.roles[role]
        if path is not None:
            for what in inspect_model(Path(path), trust_remote_code=spec.trust_remote_code):
                yield Problem(f"roles.{role}", what, spec.path or "")


def _samples_here(node: Node) -> bool:
    """Whether a sampler of ours loads the models; a plug-in's may know other kinds of folders."""
    sampler = getattr(node.stage, "sampler", None)
    return isinstance(sampler, SamplerSpec) and not sampler.REMOTE and sampler.SOURCE_DIGEST is None
