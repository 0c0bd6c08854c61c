"""Rows of a run, finished or not, for a person to look at (`iter samples`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from itercli.engine.journal import count_rows
from itercli.engine.runs import Run
from itercli.engine.store import FAILED, JOURNAL, Entry
from itercli.recipe.errors import nearest
from itercli.report.pair_view import with_means
from itercli.report.rows import Row, drawn_for, entry_of, prompts_of, stored_rows

KINDS = ("prompts", "trajectories", "scores", "examples", "pairs", "dialogues", "episodes", "trees")
TREES = ("trees",)
# Kinds whose finished rows are given whole, under this name.
WHOLE = {
    "examples": "example", "pairs": "pair", "dialogues": "dialogue", "episodes": "episode", "trees": "tree",
}  # fmt: skip
FIELDS = (
    "prompt_id", "index", "prompt", "reference", "completion", "answer", "value", "passed",
    "outcome", "message", "policy", "tokens", "finish", "seed", "step", "meta",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Query:
    """Which rows are wanted; None is no condition."""

    passed: bool | None = None
    outcome: str | None = None
    prompt: str | None = None
    limit: int = 5
    offset: int = 0
    trees: bool = False

    @property
    def judges(self) -> tuple[str, ...]:
        """Kinds of rows that can match, where not all can; see `outcome`."""
        if self.passed is not None:
            return ("scores",)
        if self.trees:
            return TREES
        return ("scores", "pairs", "dialogues", "episodes") if self.outcome is not None else ()

    def matches(self, row: Row) -> bool:
        """Whether a row is wanted."""
        prompt_id = str(row.get("prompt_id", row.get("id", "")))
        return (
            (self.passed is None or row.get("passed") is self.passed)
            and (self.outcome is None or outcome(row) == self.outcome)
            and (self.prompt is None or self.prompt in prompt_id or fnmatchcase(prompt_id, self.prompt))
        )


def outcome(row: Row) -> str | None:
    """Outcome class of a score, reason of a pair, what ended an episode, a dialogue's origin; else None."""
    rest = row.get("finish") if "turns" in row else row.get("origin") if "loss" in row else None
    found = row.get("outcome", row.get("reason", rest))
    return None if found is None else str(found)


@dataclass
class Page:
    """The rows that were asked for, in stored order.

    Attributes:
        finished: False: the stage is under way or cut off, and its journal was read.
        rows: Rows of the stage so far; `matched` of them fit the query.
        outcomes: Outcome classes of all rows, see `outcome`.
        samples: This page's rows, with the fields in `FIELDS` (None: the stage doesn't have it).
            Rows of the kinds in `WHOLE` have the row itself instead, a pair's with its margin
            and mean probability.
        not_scored: Rows that the scorer failed on: prompt_id, index, scorer, reason.
    """

    node: str
    kind: str
    iteration: int
    finished: bool
    rows: int = 0
    matched: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    samples: list[Row] = field(default_factory=list)
    not_scored: list[Row] = field(default_factory=list)


def _headline_scores(run: Run, iteration: int | None) -> str | None:
    """The score stage behind the headline metric, if it has rows to show by now."""
    stage = f"{(run.info.get('headline') or '').partition('.')[0]}.score"
    for node, place in reversed(run.info.get("nodes", {}).items()):
        if node.partition("/")[2] == stage and iteration in (None, place["iteration"]):
            entry = run.entry(node)
            if entry is not None and (entry.manifest is not None or entry.started):
                return stage if iteration is not None else node
    return None


def choose(run: Run, *, stage: str | None, iteration: int | None, judged: tuple[str, ...] = ()) -> str:
    """The node to look at: the last score stage with rows, unless told otherwise.

    Args:
        stage: Name as in the recipe, or a node id.
        iteration: Iteration, 0 is what ran before the loop.
        judged: Only stages with rows of these kinds will do; none: any kind.

    Raises:
        LookupError: Nothing fits; the message names what does.
    """
    nodes = run.info.get("nodes", {})
    rowed = {i: place for i, place in nodes.items() if place["kind"] in KINDS}
    if iteration is not None and not any(p["iteration"] == iteration for p in rowed.values()):
        last = max((p["iteration"] for p in rowed.values()), default=0)
        raise LookupError(f"no iteration {iteration} in {run.name}; there are 0 (before the loop) to {last}")
    if stage is None and iteration != 0 and judged != TREES:
        stage = _headline_scores(run, iteration)
    if stage is not None:
        names = {i.partition("/")[2]: None for i in rowed}
        if stage not in names and stage not in nodes and stage not in {i.partition("/")[2] for i in nodes}:
            near = nearest(stage, [*names, *rowed])
            hint = f" Did you mean {near}?" if near else ""
            raise LookupError(f"no stage {stage!r} in {run.name}.{hint} There are: {', '.join(names)}")
        if stage not in names and f"{stage}.score" in names:
            stage = f"{stage}.score"  # an evaluation's rows are those of its score stage
        fits = [i for i in nodes if stage in (i, i.partition("/")[2])]
        if not any(i in rowed for i in fits):
            kind = nodes[fits[0]]["kind"]
            raise LookupError(f"stage {stage!r} makes {kind}, not rows. Stages with rows: {', '.join(names)}")
        rowed = {i: rowed[i] for i in fits if i in rowed}
    if iteration is not None:
        where = sorted({p["iteration"] for p in rowed.values()})
        rowed = {i: p for i, p in rowed.items() if p["iteration"] == iteration}
        if not rowed:
            raise LookupError(
                f"stage {stage!r} is not in iteration {iteration}, but in {', '.join(map(str, where))}"
            )
    if judged == TREES and not any(p["kind"] in judged for p in rowed.values()):
        searches = ", ".join(stages_with(run, *TREES)) or "none"
        raise LookupError(f"{stage or 'this run'} has no search trees; stages with trees: {searches}")
    if judged and not any(p["kind"] in judged for p in rowed.values()):
        judges = ", ".join(stages_with(run, "scores")) or "none"
        raise LookupError(f"{stage or 'this iteration'} has no verdicts; score stages: {judges}")
    filled = [i for i in rowed if hasstored_rows(entry_of(run, i))]
    scored = [i for i in filled if rowed[i]["kind"] == ("trees" if judged == TREES else "scores")]
    if stage is None and (scored or judged):
        filled = scored
    if not filled:
        sort = "search" if judged == TREES else "score stage" if judged else "stage"
        what = f"stage {stage}" if stage else sort
        there = ", ".join(i for i in nodes if nodes[i]["kind"] in KINDS and hasstored_rows(entry_of(run, i)))
        raise LookupError(
            f"no {what} of {run.name} has rows there yet; there are rows in: {there or 'no stage'}"
        )
    return filled[-1]


def stages_with(run: Run, *kinds: str) -> list[str]:
    """Names of the stages that make rows of these kinds, as `--stage` takes them."""
    nodes = run.info.get("nodes", {})
    return list(dict.fromkeys(i.partition("/")[2] for i, p in nodes.items() if p["kind"] in (kinds or KINDS)))


def hasstored_rows(entry: Entry) -> bool:
    """Whether there is anything to show."""
    manifest = entry.manifest
    return bool(manifest["rows"]) if manifest else count_rows(entry.path / JOURNAL) > 0


def default_rows(run: Run, iteration: int) -> Iterator[Row]:
    """The rows of the stage that is shown of an iteration unless another is named.

    Raises:
        LookupError: There are none, or they can't be read.
    """
    return stored_rows(entry_of(run, choose(run, stage=None, iteration=iteration)))


def page(run: Run, node: str, query: Query) -> Page:
    """Read a node's rows and put prompts and sampling details beside them.

    Raises:
        LookupError: The rows can't be read.
    """
    place = run.info["nodes"][node]
    entry = entry_of(run, node)
    found = Page(node, place["kind"], place["iteration"], entry.manifest is not None)
    outcomes: Counter[str] = Counter()
    picked: list[Row] = []
    for row in stored_rows(entry):
        found.rows += 1
        if (known := outcome(row)) is not None:
            outcomes[known] += 1
        if query.matches(row):
            found.matched += 1
            if query.offset < found.matched <= query.offset + query.limit:
                picked.append(row)
    found.outcomes = dict(outcomes.most_common())
    found.not_scored = entry.json(FAILED) or []
    found.samples = joined(run, node, picked, finished=found.finished)
    return found


def joined(run: Run, node: str, rows: list[Row], *, finished: bool) -> list[Row]:
    """A node's rows as `samples` of a `Page`: with prompts and sampling details beside them."""
    kind = run.info["nodes"][node]["kind"]
    whole = WHOLE.get(kind)
    if whole and (finished or kind not in ("episodes", "trees")):  # else they are calls
        if kind == "pairs":
            rows = [with_means(row) for row in rows]
        return [{"prompt_id": row.get("prompt_id"), whole: row} for row in rows]
    wanted = {prompt_id for row in rows for prompt_id in _prompt_ids(row)}
    prompts = prompts_of(run, node, wanted) if kind != "prompts" else {}
    keys = {(r["prompt_id"], r["index"]) for r in rows} if kind == "scores" else set()
    drawn = drawn_for(run, node, keys) if keys else {}
    return [_sample(row, prompts, drawn) for row in rows]


def _prompt_ids(row: Row) -> list[str]:
    """Where a row's prompt may be: a call is filed under its job, ``PROMPT#INDEX`` for most stages."""
    given = row.get("prompt_id")
    if given is None:
        return []
    return [given, given.rpartition("#")[0]] if "step" in row and "#" in given else [given]


def _sample(row: Row, prompts: dict[str, Row], drawn: dict[tuple[str, int], Row]) -> Row:
    if "messages" in row:
        row = {**row, "prompt_id": row["id"], "prompt": row["messages"]}
    prompt: Row = next((prompts[i] for i in _prompt_ids(row) if i in prompts), {})
    trajectory = drawn.get((row["prompt_id"], row.get("index", 0)), {})
    joined = {
        **{name: trajectory.get(name) for name in ("tokens", "finish", "seed")},
        "prompt": prompt.get("messages"),
        "reference": prompt.get("reference"),
        **row,
    }
    return {name: joined.get(name) for name in FIELDS}
