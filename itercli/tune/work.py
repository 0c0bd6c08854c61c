"""Work on a study: trial after trial, until there are as many as were asked for."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from types import FrameType
from typing import TYPE_CHECKING, Any

from itercli.engine.display import duration
from itercli.engine.signals import Debounce
from itercli.recipe.errors import RecipeError
from itercli.report.numbers import number
from itercli.report.text import first_line
from itercli.tune.line import Line
from itercli.tune.space import overrides_of, suggest
from itercli.tune.study import Study
from itercli.tune.trial import Member, Runs, StudyStopped, TrialFailed

if TYPE_CHECKING:
    from optuna import Trial

Note = Callable[[str], None]


def work(study: Study, line: Line, *, root: Path, plain: bool, note: Note) -> int:
    """Run what is left of a study.

    Several processes may do so at once, each with trials of its own.

    Returns:
        0, or the exit code that a signal or a full disk ended it with.
    """
    began, ended = time.monotonic(), 0
    with _Signals() as signals:
        while not signals.signum:
            with study.next_trial(line.spec.trials) as trial:
                if trial is None:
                    return 0
                try:
                    _Turn(study, line, root, plain, note, signals).take(trial)
                except StudyStopped as stop:
                    return stop.code
            ended += 1
            note(_progress(study, line, (time.monotonic() - began) / ended))
        return 128 + signals.signum


class _Turn:
    """One trial in this process's hands."""

    def __init__(
        self, study: Study, line: Line, root: Path, plain: bool, note: Note, signals: _Signals
    ) -> None:
        self.study, self.line = study, line
        self.root, self.plain, self.note, self.signals = root, plain, note, signals

    def take(self, trial: Trial) -> None:
        """Run it, or go on with it, and tell Optuna how it ended."""
        from optuna.trial import TrialState

        values = suggest(trial, self.line.spec.space)
        title = f"trial {trial.number + 1} of {self.line.spec.trials}"
        self.note(f"{title}: {' '.join(overrides_of(values))}")
        try:
            value = self._value(trial, self._runs(trial, values), title)
        except (TrialFailed, RecipeError) as error:
            problems = error.problems if isinstance(error, RecipeError) else []
            text = "; ".join(f"{p.key}: {p.what} ({p.found})" for p in problems) or str(error)
            trial.set_user_attr("error", first_line(text))
            self.study.optuna.tell(trial, state=TrialState.FAIL)
            self.note(f"{title}: failed: {first_line(text)}")
            return
        if value is None:
            self.study.optuna.tell(trial, state=TrialState.PRUNED)
        else:
            self.study.optuna.tell(trial, value)

    def _runs(self, trial: Trial, values: dict[str, Any]) -> Runs:
        members = [
            Member(self.line.plan(values, seed), self.line.overrides(values, seed))
            for seed in self.line.seeds()
        ]
        trial.set_user_attr("runs", [m.name for m in members])
        trial.set_user_attr("iterations", members[0].plan.recipe.config.iterations)
        return Runs(members, self.root, self.plain, lambda: self.signals.signum, self.note)

    def _value(self, trial: Trial, runs: Runs, title: str) -> float | None:
        """The mean over the seeds at the last iteration; None for a trial that was pruned."""
        by_iteration: dict[str, list[float]] = dict(trial.user_attrs.get("values", {}))
        reported = self.study.trials()[trial.number].intermediate_values
        metric, total = self.line.metric, runs.iterations
        if not self._may_prune():  # in one go: each step starts workers anew
            runs.reach(total, metric)
        for i in range(1, total + 1):
            if i not in reported:
                by_iteration[str(i)] = runs.reach(i, metric)
                trial.set_user_attr("values", by_iteration)
                trial.report(fmean(by_iteration[str(i)]), i)
                self.note(f"{title}: iteration {i} of {total}: {metric} {_values(by_iteration[str(i)])}")
            if i < total and runs.ended(i):
                self.note(f"{title}: the loop ended early")
                return fmean(runs.reach(total, metric))
            # Of what was reported by an earlier process, only the last may still be undecided.
            if i < total and i >= max(reported, default=0) and trial.should_prune():
                self.note(f"{title}: pruned after iteration {i} of {total}")
                return None
        if not by_iteration:
            raise TrialFailed("a run without iterations has no metric")
        return fmean(by_iteration[str(total)])

    def _may_prune(self) -> bool:
        """Whether the pruner could end this trial."""
        from optuna.trial import TrialState

        spec = self.line.spec
        complete = sum(t.state == TrialState.COMPLETE for t in self.study.trials())
        return spec.pruner == "halving" or (spec.pruner == "median" and complete >= spec.startup)


class _Signals:
    """Remembers SIGINT or SIGTERM that comes between two runs; a run under way takes them itself."""

    def __init__(self) -> None:
        self.signum = 0
        self._counts = Debounce()
        self._old: dict[int, Any] = {}

    def __enter__(self) -> _Signals:
        for signum in (signal.SIGINT, signal.SIGTERM):
            self._old[signum] = signal.signal(signum, self._remember)
        return self

    def __exit__(self, *exc: object) -> None:
        for signum, old in self._old.items():
            signal.signal(signum, old)

    def _remember(self, signum: int, frame: FrameType | None) -> None:
        if not self._counts():
            return
        if self.signum:
            raise KeyboardInterrupt
        self.signum = signum


def _values(values: list[float]) -> str:
    """`0.412`, or the mean and each seed's: `0.412 (0.398, 0.426)`."""
    of_each = f" ({', '.join(number(v) for v in values)})" if len(values) > 1 else ""
    return number(fmean(values)) + of_each


def _progress(study: Study, line: Line, seconds: float) -> str:
    """`4 of 20 trials done, 1 pruned; best 0.603 (trial 2); 12m left`."""
    from optuna.trial import TrialState

    states = [t.state for t in study.trials()]
    done = sum(s.is_finished() for s in states)
    text = f"{done} of {line.spec.trials} trials done"
    for state, word in ((TrialState.PRUNED, "pruned"), (TrialState.FAIL, "failed")):
        if count := states.count(state):
            text += f", {count} {word}"
    if TrialState.COMPLETE in states:
        best = study.optuna.best_trial
        text += f"; best {number(best.value)} (trial {best.number + 1})"
    left = line.spec.trials - done
    return text + (f"; {duration(seconds * left)} left" if left > 0 else "")
