"""From a checked recipe to a graph of stages with their keys.

The key of a stage is a hash of all that determines its result: kind and code version,
the options that matter, the keys of its inputs and models, and its seed. All keys of all
iterations are known before anything runs, so a plan can say what is reused and why.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from itercli.errors import IterError
from itercli.models import ModelError, ModelNotHere, ModelSpec, ResolvedModel, resolve
from itercli.models.files import code_files
from itercli.recipe import sandboxing
from itercli.recipe.errors import Problem, RecipeError, nearest
from itercli.recipe.schedule import schedule_notes
from itercli.recipe.schema import RESERVED, SCOPES, Recipe, RecipeConfig, Scope, parse_stage
from itercli.recipe.seeds import digest, seed_for
from itercli.resources import Resources, this_machine
from itercli.stages.base import Link, Stage


@dataclass(frozen=True, slots=True)
class ModelUse:
    """A model version that a node uses.

    Attributes:
        label: Role and version, for example ``policy@2``.
        node: Id of the `train` node that makes it, or None for the role's start model.
    """

    role: str
    label: str
    node: str | None


@dataclass(slots=True)
class Node:
    """One stage of one iteration.

    Attributes:
        id: ``before/NAME``, ``iteration-NN/NAME`` or ``after/NAME``.
        inputs: Slot -> ids of the nodes that feed it.
        key: Stage key, 20 hex digits.
        ingredients: What the key was hashed from; kept in the manifest to explain changes.
    """

    id: str
    scope: Scope
    iteration: int
    name: str
    stage: Stage
    raw: dict[str, Any]
    inputs: dict[str, list[str]] = field(default_factory=dict)
    models: dict[str, ModelUse] = field(default_factory=dict)
    seed: int = 0
    key: str = ""
    ingredients: dict[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """Kind of the artifact it makes."""
        return self.stage.OUTPUT

    @property
    def needs(self) -> list[str]:
        """Ids of all nodes that must be there first."""
        needed = [i for ids in self.inputs.values() for i in ids]
        needed += [m.node for m in self.models.values() if m.node]
        return list(dict.fromkeys(needed))


@dataclass
class Plan:
    """All nodes in running order, with the start models of the roles.

    Attributes:
        covered: Identity of a recipe's stage -> its options and fingerprint. They are asked for once:
            a file that is edited meanwhile must not give iterations different keys.
    """

    recipe: Recipe
    nodes: dict[str, Node]
    roots: dict[str, ResolvedModel]
    resources: Resources
    covered: dict[int, tuple[dict[str, Any], dict[str, Any]]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the run: the recipe's and a hash of what it computes."""
        return f"{self.recipe.config.name}-{digest([n.key for n in self.nodes.values()], 8)}"

    @property
    def notes(self) -> list[str]:
        """What was chosen automatically and why, and what stages say of their options."""
        found = schedule_notes(self.recipe.schedules, self.recipe.config.iterations)
        for role, model in self.roots.items():
            if model.source == "absent":
                path = self.recipe.config.roles[role].path
                found.append(f"model {path} is not here yet: `iter run` fetches it, and keys change then")
            if model.trust_remote_code and model.path is not None:
                names = [str(path.relative_to(model.path)) for path in code_files(model.path)]
                found.append(
                    f"{role}: trust_remote_code: Python files of {model.path} are run, without a sandbox: "
                    + (", ".join(names) or "there are none")
                )
            if model.template_date:
                found.append(
                    f"{role}: its chat template prints a date, which is always {model.template_date} "
                    "(template_date beside the model's path)"
                )
        for node in self.nodes.values():
            sampler = getattr(node.stage, "sampler", None)
            reason = getattr(sampler, "reason", None)
            if reason:
                found.append(f"sampler: {reason}")
            found += [f"{node.name}: {note}" for note in node.stage.notes()]
        stages = [node.stage for node in self.nodes.values()]
        found += filter(None, [sandboxing.note(stages, self.recipe.config.executor.sandbox)])
        return list(dict.fromkeys(found))


def build_plan(
    recipe: Recipe,
    *,
    download: bool = False,
    provisional: bool = False,
    resources: Resources | None = None,
    like: Plan | None = None,
) -> Plan:
    """Expand iterations, connect stages and compute keys.

    Args:
        download: Fetch start models that aren't here yet; otherwise that is an error.
        provisional: Plan with them all the same; keys change once they are here.
        resources: Of the machine that runs the stages; None is this one.
        like: A plan of the same stages under way: files and models stay what they were for it.

    Raises:
        RecipeError: Unknown stage names, wrong artifact kinds, models that aren't there.
    """
    planner = _Planner(recipe, download, provisional, resources or this_machine())
    if like is not None:
        planner.resources, planner.covered, planner.known = like.resources, like.covered, like.roots
    return planner.plan()


class _Planner:
    def __init__(self, recipe: Recipe, download: bool, provisional: bool, resources: Resources) -> None:
        self.recipe, self.resources = recipe, resources
        self.download, self.provisional = download, provisional
        self.nodes: dict[str, Node] = {}
        self.problems: dict[tuple[str, str], Problem] = {}
        self.versions: dict[str, list[ModelUse]] = {}
        self.roots: dict[str, ResolvedModel] = {}
        self.prompt_makers: dict[str, list[str]] = {}  # node -> nodes that make its prompts
        self.known: dict[str, ResolvedModel] = {}
        self.covered: dict[int, tuple[dict[str, Any], dict[str, Any]]] = {}

    def plan(self) -> Plan:
        config = self.recipe.config
        failed: list[ModelSpec] = []
        for role, spec in config.roles.items():
            self.versions[role] = [ModelUse(role, f"{role}@0", None)]
            if spec in failed:  # reported, and perhaps a download: not a second time
                continue
            try:
                self.roots[role] = self.known.get(role) or resolve(spec, download=self.download)
            except ModelError as error:
                if self.provisional and isinstance(error, ModelNotHere):
                    name = f"absent:{spec.path}@{spec.revision or 'main'}"
                    self.roots[role] = ResolvedModel(path=None, digest=name, source="absent")
                else:
                    failed.append(spec)
                    self._problem(f"roles.{role}.path", str(error), spec.path)
        for name in self.recipe.stages["before"]:
            self._add("before", 0, name)
        for iteration in range(1, config.iterations + 1):
            for name, stage in self.recipe.stages["loop"].items():
                if iteration == 1 or not self._once(name, stage):
                    self._add("loop", iteration, name)
        for name in self.recipe.stages["after"]:
            self._add("after", config.iterations, name)
        self._check_rules()
        stages = [node.stage for node in self.nodes.values()]
        if unfit := sandboxing.problem(stages, config.executor.sandbox):
            self._problem(unfit.key, unfit.what, unfit.found)
        if self.problems:
            raise RecipeError(self.problems.values(), config.name)
        for node in self.nodes.values():
            try:
                self._set_key(node)
            except (IterError, OSError) as error:
                if str(error) not in {p.what for p in self.problems.values()}:
                    self._problem(f"{node.scope}.{node.name.split('.')[0]}", str(error))
        if self.problems:
            raise RecipeError(self.problems.values(), config.name)
        return Plan(self.recipe, self.nodes, self.roots, self.resources, self.covered)

    def _once(self, name: str, stage: Stage) -> bool:
        """Whether a stage runs in the first iteration only; children follow their parent."""
        parent = self.recipe.stages["loop"].get(name.split(".")[0], stage)
        return stage.once or parent.once

    def _problem(self, key: str, what: str, found: str = "", allowed: str = "", near: str = "") -> None:
        # The same mistake shows up in every iteration: report it once.
        self.problems.setdefault(
            (key, what), Problem(key, what, found, allowed, near, self.recipe.locate(key))
        )

    def _add(self, scope: Scope, iteration: int, name: str) -> None:
        raw, stage = self.recipe.stage_at(scope, name, iteration)
        node = Node(node_id(scope, iteration, name), scope, iteration, name, stage, raw)
        for link in stage.links(name):
            # Several references may feed one slot; what two of them stand for comes once.
            feeding = node.inputs.setdefault(link.slot, [])
            feeding += [i for i in self._connect(node, link) if i not in feeding]
        if stage.WITH_PROMPTS and "prompts" not in node.inputs:
            roots = [p for ids in node.inputs.values() for i in ids for p in self._prompts_of(i)]
            node.inputs["prompts"] = list(dict.fromkeys(roots))
        made_by = [i for ids in node.inputs.values() for i in ids]
        self._settle(node, stage.settled([self.nodes[i].stage for i in self._prompts_before(made_by)]))
        for model in stage.model_links():
            known = self.versions.get(model.role)
            if known is None:
                continue  # reported by the schema
            node.models[model.slot] = known[0] if model.which == "initial" else known[-1]
        if stage.SEEDED:
            node.seed = seed_for(self.recipe.config.seed, name, iteration)
        self.nodes[node.id] = node
        role = stage.trains()
        if role is not None and role in self.versions:
            label = f"{role}@{iteration}"
            taken = sum(v.label.split(".")[0] == label for v in self.versions[role])
            self.versions[role].append(ModelUse(role, f"{label}.{taken}" if taken else label, node.id))

    def _settle(self, node: Node, options: dict[str, Any]) -> None:
        """Put options that the plan knows better into a node."""
        if options:
            node.raw = {**node.raw, **options}
            node.stage = parse_stage(node.raw)

    def _prompts_before(self, ids: list[str]) -> list[str]:
        """Stages that make prompts, of those that these go back to; the source comes first."""
        found: dict[str, None] = {}
        for i in ids:
            if i not in self.prompt_makers:
                node = self.nodes[i]
                before = self._prompts_before([j for of in node.inputs.values() for j in of])
                self.prompt_makers[i] = [*before, i] if node.kind == "prompts" else before
            found |= dict.fromkeys(self.prompt_makers[i])
        return list(found)

    def _connect(self, node: Node, link: Link) -> list[str]:
        """Ids that a link's reference stands for, with every mistake reported."""
        key = f"{node.scope}.{node.name.split('.')[0]}.{link.key}"
        prefix, _, rest = link.ref.partition(".")
        mode, target = (prefix, rest) if prefix in RESERVED and rest else ("", link.ref)
        loop, before = self.recipe.stages["loop"], self.recipe.stages["before"]
        if mode in ("previous", "all") and node.scope == "before":
            self._problem(key, f"`{mode}.` means iterations of the loop, which has not begun", link.ref)
            return []
        last = node.iteration
        own = self.recipe.stages[node.scope]
        known = list(before if "before" in (mode, node.scope) else {**before, **loop, **own})
        if target not in known:
            # A stage can't feed itself, but its namesake under `before:` can.
            itself = "" if mode == "before" != node.scope else node.name.split(".")[0]
            visible = [n for n in known if n.split(".")[0] != itself]
            what = "no such stage under `before:`" if mode == "before" else "no such stage"
            self._problem(key, what, target, ", ".join(visible), nearest(target, visible))
            return []
        found: list[str] = []
        if mode == "before":
            found = self._if_known(node_id("before", 0, target))
        elif mode == "all":
            found = [i for n in range(1, last + 1) if (i := node_id("loop", n, target)) in self.nodes]
            found = found or self._if_known(node_id("before", 0, target))
        elif mode == "previous":
            found = self._latest(target, last - 1) or self._if_known(node_id("before", 0, target))
            if not found and last > 1:
                self._problem(key, "is not a stage of the loop", link.ref)
            return self._kinds(node, link, key, found)
        else:
            found = self._if_known(node_id(node.scope, node.iteration, target))
            current = self.recipe.stages["loop"].get(target)
            if not found and current is not None:
                reuse = node.scope != "loop" or self._once(target, current)
                found = self._latest(target, last) if reuse else []
            found = found or self._if_known(node_id("before", 0, target))
        if not found:
            if link.optional:
                return []
            earlier = [n.name for n in self.nodes.values() if n.iteration == last and "." not in n.name]
            hint = f"previous.{target} (last iteration's)" if node.scope == "loop" and target in loop else ""
            what = "a stage can't be its own input" if target == node.name else "comes later in the recipe"
            self._problem(key, what, link.ref, ", ".join([*earlier, hint] if hint else earlier))
        return self._kinds(node, link, key, found)

    def _kinds(self, node: Node, link: Link, key: str, found: list[str]) -> list[str]:
        for i in found:
            made = self.nodes[i].kind
            if made not in link.kinds:
                fitting = sorted(
                    {n.name for n in self.nodes.values() if n.kind in link.kinds and "." not in n.name}
                )
                self._problem(
                    key,
                    f"needs {' or '.join(link.kinds)}, but {link.ref!r} makes {made}",
                    link.ref,
                    ", ".join(fitting) or f"a stage that makes {' or '.join(link.kinds)}",
                )
        return found

    def _latest(self, name: str, iteration: int) -> list[str]:
        """The loop stage's node of this iteration, or of the one before that it runs in."""
        for n in range(iteration, 0, -1):
            if (i := node_id("loop", n, name)) in self.nodes:
                return [i]
        return []

    def _if_known(self, i: str) -> list[str]:
        return [i] if i in self.nodes else []

    def _prompts_of(self, i: str) -> list[str]:
        node = self.nodes[i]
        if node.kind == "prompts":
            return [i]
        if "prompts" in node.inputs:
            return node.inputs["prompts"]
        return [p for ids in node.inputs.values() for j in ids for p in self._prompts_of(j)]

    def _check_rules(self) -> None:
        config = self.recipe.config
        for field_name, stage, metric in _metric_refs(config):
            target = self.recipe.stages["loop"].get(stage)
            known = [n for n, s in self.recipe.stages["loop"].items() if s.OUTPUT == "metrics"]
            if target is None or target.OUTPUT != "metrics":
                self._problem(
                    field_name,
                    "names no evaluate stage of the loop",
                    stage,
                    ", ".join(known),
                    nearest(stage, known),
                )
            elif field_name == "stop" and self._once(stage, target):
                self._problem("stop", "the stage runs in the first iteration only", stage, "once: false")
            elif metric not in (names := list(getattr(target, "metrics", (metric,)))):
                self._problem(
                    field_name,
                    f"{stage} does not compute this metric",
                    metric,
                    ", ".join(names),
                    nearest(metric, names),
                )

    def _set_key(self, node: Node) -> None:
        stage = node.stage
        if id(stage) not in self.covered:
            self.covered[id(stage)] = (stage.resolved(self.resources).key_params(), stage.fingerprint())
        options, fingerprint = self.covered[id(stage)]
        models = {}
        for slot, use in node.models.items():
            source = self.nodes[use.node].key if use.node else self.roots[use.role].digest
            models[slot] = {"model": source, "version": use.label}
            if dated := self.roots[use.role].template_date:
                models[slot]["template_date"] = dated
        node.ingredients = {
            "stage": stage.NAME,
            "options": options,
            "fingerprint": fingerprint,
            "inputs": {slot: [self.nodes[i].key for i in ids] for slot, ids in node.inputs.items()},
            "models": models,
            "seed": node.seed if stage.SEEDED else None,
        }
        node.key = digest(node.ingredients)


def node_id(scope: Scope, iteration: int, name: str) -> str:
    """Id of a node; also its path below the run's folder."""
    return f"iteration-{iteration:02d}/{name}" if scope == "loop" else f"{scope}/{name}"


def _metric_refs(config: RecipeConfig) -> list[tuple[str, str, str]]:
    """Field, stage and metric of all that names a metric."""
    tuned = config.tune.metric if config.tune else None
    named = [(field, name) for field, name in (("headline", config.headline), ("tune.metric", tuned)) if name]
    refs = [(field, *name.partition(".")[::2]) for field, name in named]
    return [*refs, ("stop", config.stop.stage, config.stop.metric)] if config.stop else refs


__all__ = ["SCOPES", "ModelUse", "Node", "Plan", "build_plan", "node_id"]
