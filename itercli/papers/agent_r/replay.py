"""Whether a spliced path holds in the environment: its steps are done again, the bad ones first.

Agent-R joins steps of two branches and trusts that the good ones still work behind the bad ones.
Doing them shows it. This check is not in the paper.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from itercli.environments.base import EnvironmentFailed, EnvironmentSpec
from itercli.environments.window import Window
from itercli.papers.agent_r.pairs import reaches
from itercli.papers.agent_r.splice import Draft
from itercli.records import Dialogue, Prompt, Turn
from itercli.stages.acting import Scene, open_worlds
from itercli.stages.base import StageContext, StageError
from itercli.training.base import Interrupted


@dataclass(frozen=True, slots=True)
class Replay:
    """What came of it.

    Attributes:
        turns: The turns with the observations of this time, up to the environment's end.
        score: The environment's score after them, in [0, 1]; 0 where the task can't be begun, or was
            over before the signal.
        steps: Steps done behind the signal.
        differ: Those of them whose observation is another than in the good path.
    """

    turns: tuple[Turn, ...]
    score: float
    steps: int
    differ: int


def replay(scene: Scene, turns: Sequence[Turn]) -> Replay:
    """Do all actions of a spliced path but the signal's, which is for the policy alone."""
    done: list[Turn] = []
    shown: list[Turn] = []
    signalled = False
    steps = differ = 0
    try:
        for turn in turns:
            if turn.info.get("signal"):
                signalled = True
                shown.append(turn)
                continue
            did = turn.model_copy(update=scene.step(done, turn.text))
            done.append(did)
            shown.append(did)
            if signalled:
                steps += 1
                differ += did.observation != turn.observation
            if did.done:
                break
    except EnvironmentFailed:
        return Replay(tuple(shown), 0.0, steps, differ)
    return Replay(tuple(shown), done[-1].score if done and signalled else 0.0, steps, differ)


def verified(
    ctx: StageContext,
    drafts: Sequence[Draft],
    environments: Iterable[EnvironmentSpec],
    counts: Counter[str],
    *,
    take_over: bool,
) -> Iterator[Dialogue]:
    """Dialogues of the drafts, without revisions that end no better than the tree's alpha.

    What was replayed is journaled, so that a restart does not do it again; `meta["replay"]` holds
    the score and the share of observations that differ.

    Args:
        counts: "replayed" and "dropped_replay" are added to.
        take_over: Dialogues get the observations of the replay.

    Raises:
        Interrupted: `ctx.stopping()`.
        StageError: A task of an environment that is not listed.
        EnvironmentFailed: An environment can't be set up here.
    """
    journal = ctx.journal(Dialogue, len(drafts))
    known = {row.key: row for row in journal.rows() if isinstance(row, Dialogue)}
    missing = {d.tree.prompt_id for d in drafts if d.origin == "revision" and d.key not in known}
    scenes = _scenes(ctx, environments, missing)
    for done, draft in enumerate(drafts):
        if ctx.stopping():
            raise Interrupted
        ctx.progress(done, len(drafts), "dialogues")
        if draft.origin != "revision":
            yield draft.dialogue()
            continue
        row = known.get(draft.key)
        if row is None:
            found = replay(scenes[draft.tree.prompt_id], draft.turns)
            share = found.differ / found.steps if found.steps else 0.0
            shown = replace(draft, turns=found.turns) if take_over else draft
            row = shown.dialogue(replay={"score": found.score, "differ": share})
            journal.append(row)
        counts["replayed"] += 1
        if reaches(row.meta["replay"]["score"], draft.tree.meta["alpha"]):
            yield row
        else:
            counts["dropped_replay"] += 1


def _scenes(ctx: StageContext, environments: Iterable[EnvironmentSpec], wanted: set[str]) -> dict[str, Scene]:
    """Tasks by prompt id, in their environments."""
    specs = {spec.known_as: spec for spec in environments}
    tasks = [p for a in ctx.inputs["prompts"] for p in a.rows(Prompt) if p.id in wanted]
    used = {p.meta.get("environment") for p in tasks}
    if strange := used - specs.keys():
        raise StageError(
            f"{ctx.name}: tasks of {', '.join(map(str, strange))} can't be replayed in {', '.join(specs)}; "
            "list their environment"
        )
    pools = {name: open_worlds(ctx, spec) for name, spec in specs.items() if name in used}
    return {p.id: Scene(p, specs[e], pools[e], Window()) for p in tasks for e in [p.meta["environment"]]}
