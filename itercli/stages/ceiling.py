"""Stage `ceiling`: how many references pass, which bounds what a model can reach.

Benchmarks hold problems whose own reference fails under the simulator at hand: it lacks a
feature, or the reference or the bench is wrong. A pass rate is read against that.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from itercli.records import Prompt, Score
from itercli.registry import register
from itercli.stages.base import Link, Stage, StageContext, StageError
from itercli.stages.prompts import inline


@register("stage", "ceiling")
class Ceiling(Stage):
    """Judges the prompts' own references as if a model had written them.

    Metrics: `pass@1`, the share of references that pass; `passing` and `references`, the numbers.
    `ceiling.json` names those that fail and why.
    """

    OUTPUT = "metrics"
    WITH_PROMPTS = True

    uses: Literal["ceiling"] = "ceiling"
    prompts: str | dict[str, Any] = Field(description="A `prompts` stage, or a source in place.")
    scorer: str | dict[str, Any] = Field("functional", description="Which scorer judges.")

    def links(self, name: str) -> list[Link]:
        return [Link("scores", f"{name}.score", ("scores",), "prompts")]

    def children(self, name: str) -> dict[str, dict[str, Any]]:
        prompts, children = inline(self.prompts, name)
        children["references"] = {"uses": "references", "prompts": prompts}
        children["score"] = {"uses": "score", "of": f"{name}.references", "scorer": self.scorer}
        return children

    def key_params(self) -> dict[str, Any]:
        return {"name": self.NAME, "version": self.VERSION}  # the rest is in its children's keys

    def run(self, ctx: StageContext) -> None:
        from itercli.verifiers.known_bad import known_bad

        prompts = {p.id: p for a in ctx.inputs["prompts"] for p in a.rows(Prompt)}
        scores = [s for a in ctx.inputs["scores"] for s in a.rows(Score)]
        undecided = next((s.prompt_id for s in scores if s.passed is None), None)
        if undecided is not None or not scores:
            what = f"`passed` is open, for example of {undecided}" if scores else "no prompt has a reference"
            raise StageError(f"{ctx.name}: {what}; give prompts with references and a scorer that decides")
        failing = []
        for s in scores:
            if not s.passed:
                meta = prompts[s.prompt_id].meta
                known = known_bad(str(meta.get("suite", "")), str(meta.get("task", ""))) or ""
                row = {"prompt": s.prompt_id, "outcome": s.outcome, "message": s.message, "known": known}
                failing.append(row)
        passing = len(scores) - len(failing)
        ctx.finish_file("ceiling.json", {"passing": passing, "references": len(scores), "failing": failing})
        ctx.finish_metrics({"pass@1": passing / len(scores), "passing": passing, "references": len(scores)})
