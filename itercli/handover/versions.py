"""Which model of a run is handed over."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itercli.engine.context import model_ref
from itercli.engine.runs import Run
from itercli.errors import IterError
from itercli.recipe.compose import load_yaml
from itercli.recipe.errors import nearest
from itercli.records import ModelRef
from itercli.report.best import sentence
from itercli.report.details import details


class HandoverError(IterError):
    """Nothing can be handed over like this; the message names the way out."""


@dataclass(frozen=True)
class Version:
    """One version of a role of a run.

    Attributes:
        content: The run as in `itercli.show/1`.
        made: The version's entry in the lineage.
        iteration: The iteration that it was made in; 0 is before the loop.
        ref: How to load it here.
        why: Why this one, in words.
    """

    run: Run
    content: dict[str, Any]
    made: dict[str, Any]
    iteration: int
    ref: ModelRef
    why: str

    @property
    def role(self) -> str:
        """Its role."""
        return str(self.made["role"])

    @property
    def label(self) -> str:
        """Role and number, for example ``policy@2``."""
        return str(self.made["version"])

    @property
    def start(self) -> dict[str, Any]:
        """The role's start model: path, digest and source."""
        return dict(self.run.info["roles"][self.role])

    @property
    def config(self) -> dict[str, Any]:
        """The resolved recipe of the run.

        Raises:
            Damaged: It is not what was written.
        """
        self.run.config_text()  # raises where it is not what was written
        return load_yaml(self.run.path / "config.yaml") or {}

    @property
    def on_start(self) -> bool:
        """Whether its base is the role's start model, not weights that the run trained."""
        return self.ref.base == self.start["path"]


def choose(run: Run, *, role: str | None = None, iteration: str | None = None) -> Version:
    """A role's version.

    Args:
        role: The only trained one, or that of the headline's stage, unless given.
        iteration: ``best`` (by the headline), ``last`` or a number: the version at its end. None is
            the best where there is a headline with values, else the last.

    Raises:
        HandoverError: No such role, iteration or finished version.
    """
    content = details(run)
    models = content["lineage"]
    role = _role(run, models, role)
    mine = [m for m in models if m["role"] == role]
    nodes = run.info["nodes"]
    made_in = [nodes[m["made_by"]]["iteration"] if m["made_by"] else 0 for m in mine]
    best = content["best"]
    if iteration is None:
        iteration = "best" if best else "last"
    if iteration == "best":
        if not best:
            raise HandoverError(
                f"{run.name} has no headline metric with a value, so no best iteration; "
                "say --iteration last, or a number"
            )
        wanted = best["models"][role]
        at = next(i for i, m in enumerate(mine) if (m["version"], m["path"]) == tuple(wanted.values()))
        why = f"the best by the headline: {sentence(best)}"
    else:
        fits = [i for i, m in enumerate(mine) if m["state"] == "done" and _at(run, made_in[i], iteration)]
        if not fits:
            raise HandoverError(f"{run.name}: {role} has no finished version at --iteration {iteration}")
        at = fits[-1]
        why = "the last one" if iteration == "last" else f"the version at the end of iteration {iteration}"
    return Version(run, content, mine[at], made_in[at], _ref(run, mine[at]), why)


def _role(run: Run, models: list[dict[str, Any]], role: str | None) -> str:
    roles = list(run.info.get("roles", {}))
    if role is not None:
        if role not in roles:
            near = nearest(role, roles)
            hint = f" Did you mean {near}?" if near else ""
            raise HandoverError(f"{run.name} has no role {role!r}.{hint} There are: {', '.join(roles)}")
        return role
    trained = list(dict.fromkeys(m["role"] for m in models if m["made_by"]))
    used = _used_for(run, (run.info.get("headline") or "").partition(".")[0])
    for candidates in (trained, [r for r in used if r in trained], roles):
        if len(candidates) == 1:
            return candidates[0]
    raise HandoverError(f"{run.name} has several roles; say which with --role: {', '.join(trained or roles)}")


def _used_for(run: Run, stage: str) -> list[str]:
    """The roles whose models a stage, or else the stages that it is made from, use."""
    nodes = run.info["nodes"]
    todo = [node for node in nodes if node.partition("/")[2] == stage]
    while todo:
        roles = [label.partition("@")[0] for i in todo for label in nodes[i]["models"].values()]
        if roles:
            return list(dict.fromkeys(roles))
        todo = [
            i for node in todo for i in nodes[node]["needs"] if i in nodes and nodes[i]["kind"] != "model"
        ]
    return []


def _at(run: Run, made_in: int, iteration: str) -> bool:
    if iteration == "last":
        return True
    total = int(run.info.get("iterations", 0))
    if not iteration.isdigit() or int(iteration) > total:
        raise HandoverError(f"--iteration {iteration!r}: best, last or 0 to {total} of {run.name}")
    return made_in <= int(iteration)


def _ref(run: Run, made: dict[str, Any]) -> ModelRef:
    start = run.info["roles"][made["role"]]
    if start["path"] is None:
        raise HandoverError(
            f"role {made['role']} of {run.name} is a model behind a server: nothing of it is here"
        )
    if made["made_by"] is None:
        return ModelRef(
            base=start["path"],
            adapter=start.get("adapter"),
            version=made["version"],
            digest=start["digest"],
            trust_remote_code=start.get("trust_remote_code", False),
            template_date=start.get("template_date"),
        )
    entry = run.entry(made["made_by"])
    try:
        assert entry is not None
        ref = model_ref(entry, made["version"], start["path"])
        damage = entry.damage(entry.sealed() or {"files": {}}, thorough=True)
    except FileNotFoundError as error:
        raise HandoverError(f"{made['version']} of {run.name} is not finished: {error}") from None
    if damage:
        raise HandoverError(
            f"{made['version']} of {run.name} is damaged: {damage}; running the recipe again makes it again"
        )
    if ref.digest == start["digest"]:  # nothing to train on: still the start model, adapter and all
        ref = ref.model_copy(update={"adapter": start.get("adapter")})
    told = {name: start[name] for name in ("trust_remote_code", "template_date") if name in start}
    ref = ref.model_copy(update=told)
    missing = [p for p in (ref.base, ref.adapter) if p and not Path(p).is_dir()]
    if missing:
        raise HandoverError(
            f"{made['version']} of {run.name}: {missing[0]} is not there any more; `iter run` makes "
            "trained models again, start models have to be put back"
        )
    return ref
