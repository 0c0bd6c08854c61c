"""One trial: the ordinary runs of a point, grown iteration by iteration.

A trial's runs have the names, folders and stages that `iter run` gives them, so what another
trial or run has computed is reused. Each is run up to its first iteration, judged, run up to
the second, and so on: what a pruned trial saves is the iterations that were never run.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from itercli.cli.execute import execute
from itercli.engine.runs import Run
from itercli.engine.store import MANIFEST
from itercli.recipe.plan import Plan, build_plan
from itercli.report.tables import by_iteration
from itercli.report.text import first_line

HELD = 3  # exit code of a run that another process is at
WAIT_SECONDS = 1.0


class TrialFailed(Exception):
    """A run of the trial failed, or has no value; the study goes on."""


class StudyStopped(Exception):
    """A signal, or trouble that is not the trial's own, ends the study; `code` is the exit code."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(f"exit code {code}")


def up_to(plan: Plan, iteration: int) -> Plan:
    """The plan without later iterations and what comes after the loop.

    It is cut from the whole plan: in some recipes options, and with them keys, depend on how
    many iterations there will be.
    """
    recipe = plan.recipe
    if iteration >= recipe.config.iterations:
        return plan
    config = recipe.config.model_copy(update={"iterations": iteration})
    return build_plan(replace(recipe, config=config, stages={**recipe.stages, "after": {}}))


def has_run(run: Run, plan: Plan) -> bool:
    """Whether the run is finished and has all of the plan; it may have more."""
    info = run.info
    known = info.get("nodes", {})
    return info.get("state") == "finished" and all(
        known.get(n.id, {}).get("key") == n.key and (run.store.entry(n.kind, n.key).path / MANIFEST).exists()
        for n in plan.nodes.values()
    )


def value_at(run: Run, metric: str, iteration: int) -> float | None:
    """The metric at an iteration of the loop, or at the last one before that has it."""
    values = by_iteration(run).get(metric, {})
    reached = [i for i in values if 1 <= i <= iteration]
    found = values[max(reached)] if reached else None
    return found["value"] if isinstance(found, dict) else found


@dataclass
class Member:
    """One of a trial's runs: its whole plan and its overrides."""

    plan: Plan
    overrides: list[str]

    @property
    def name(self) -> str:
        """Name of the run, as `iter run` gives it."""
        return self.plan.name


@dataclass
class Runs:
    """The runs of one trial.

    Attributes:
        root: Folder of runs.
        plain: Plain lines also on a terminal.
        stopped: Gives the number of a signal that came while no run was under way, or 0.
        note: Shows a line.
    """

    members: list[Member]
    root: Path
    plain: bool
    stopped: Callable[[], int]
    note: Callable[[str], None]

    @property
    def iterations(self) -> int:
        """Iterations of the whole trial."""
        return self.members[0].plan.recipe.config.iterations

    def reach(self, iteration: int, metric: str) -> list[float]:
        """Run all up to an iteration; the metric there, run by run.

        Raises:
            TrialFailed: A run failed, or has no such value.
            StudyStopped: A signal, or a disk that is full.
        """
        values = []
        for member in self.members:
            run = self._reach(member, iteration)
            value = value_at(run, metric, iteration)
            if value is None:
                raise TrialFailed(f"{member.name} has no {metric} at iteration {iteration}")
            values.append(float(value))
        return values

    def ended(self, iteration: int) -> bool:
        """Whether every run's loop has ended early, at this iteration or before."""
        infos = [Run(self.root / m.name).info for m in self.members]
        return all(
            info.get("stopped_early") and max(n["iteration"] for n in info["nodes"].values()) <= iteration
            for info in infos
        )

    def _reach(self, member: Member, iteration: int) -> Run:
        run = Run(self.root / member.name)
        plan = up_to(member.plan, iteration)
        told = False
        while not has_run(run, plan):
            if signum := self.stopped():
                raise StudyStopped(128 + signum)
            code = execute(
                plan, root=self.root, name=member.name, overrides=member.overrides,
                again=None, plain=self.plain, quiet=True,
            )  # fmt: skip
            if code == 0:
                break
            if code != HELD:
                _raise(run.info, code)
            if not told:
                told = True
                self.note(f"{member.name} is being run by another process; waiting")
            time.sleep(WAIT_SECONDS)
        return run


def _raise(info: dict[str, Any], code: int) -> None:
    if code == 1 and info.get("state") == "failed":
        raise TrialFailed(first_line(info.get("error")) or "failed")
    raise StudyStopped(code)
