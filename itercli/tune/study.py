"""A study on disk: Optuna's journal, and who is at which trial.

::

    runs/.tune/NAME/study.json      the line: space, metric, overrides
    runs/.tune/NAME/journal.log     Optuna's storage
    runs/.tune/NAME/locks/          one file per trial, held by the process that runs it

A trial whose lock nobody holds was cut off and is continued. Each trial is drawn with a seed of
its own, so the same study draws the same points however often it was stopped.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import ValidationError

from itercli.engine.checked import Damaged, explain, read_document, read_document_or, write_document
from itercli.engine.files import Locked, lock, make_folder
from itercli.errors import IterError
from itercli.recipe.errors import nearest
from itercli.recipe.seeds import seed_for
from itercli.tune.backend import CheckedJournal
from itercli.tune.spec import TuneSpec

if TYPE_CHECKING:
    import optuna

FOLDER = ".tune"
STUDY_FILE = "study.json"
JOURNAL = "journal.log"
MISSING = "tuning needs Optuna: pip install 'itercli[tune]'"
REDUCTION = 2  # halving: the better half goes on to 2, 4, 8 ... iterations


class NoOptuna(IterError):
    """Optuna is not installed."""


class Study:
    """One study's folder, with Optuna's study in it."""

    def __init__(self, path: Path, spec: TuneSpec) -> None:
        """Open it, or make it.

        Raises:
            NoOptuna: The extra is not installed.
            Damaged: Its journal is not what was written.
        """
        try:
            import optuna
            from optuna.storages import JournalStorage
        except ImportError as error:
            raise NoOptuna(f"{MISSING} ({error})") from None
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.path, self.spec = path, spec
        make_folder(path)
        storage = JournalStorage(cast(Any, CheckedJournal(path / JOURNAL)))
        if path.name in optuna.get_all_study_names(storage):  # then a look leaves the journal as it is
            self.optuna = optuna.load_study(study_name=path.name, storage=storage, pruner=_pruner(spec))
        else:
            self.optuna = optuna.create_study(
                storage=storage,
                study_name=path.name,
                direction=spec.direction,
                pruner=_pruner(spec),
                load_if_exists=True,
            )

    @property
    def name(self) -> str:
        """Name of the study."""
        return self.path.name

    @property
    def about(self) -> dict[str, Any]:
        """Content of study.json."""
        return read_document_or(self.path / STUDY_FILE, None, "the same line again writes it anew")

    def describe(self, **about: Any) -> None:
        """Write study.json."""
        write_document(self.path / STUDY_FILE, {"format": 1, **about})

    def trials(self) -> list[optuna.trial.FrozenTrial]:
        """All trials, as they are now."""
        return self.optuna.get_trials(deepcopy=False)

    @contextmanager
    def next_trial(self, total: int) -> Iterator[optuna.Trial | None]:
        """A trial to work on, held until the end: one that was cut off, or else a new one.

        Args:
            total: How many there shall be; None is given when there are as many.
        """
        from optuna.trial import Trial, TrialState

        with ExitStack() as held:
            trial = None
            with self._alone():
                known = self.trials()
                for frozen in known:
                    if frozen.state == TrialState.RUNNING and self._hold(frozen.number, held):
                        # Between the look and the lock its process may have brought it to its end.
                        if self.trials()[frozen.number].state != TrialState.RUNNING:
                            held.close()
                            continue
                        self._seed(frozen.number)
                        trial = Trial(self.optuna, frozen._trial_id)
                        break
                if trial is None and len(known) < total:
                    self._seed(len(known))
                    trial = self.optuna.ask()
                    self._hold(trial.number, held)
            yield trial

    def held(self, number: int) -> bool:
        """Whether a process is at this trial."""
        try:
            with lock(self._lock(number), "a look"):
                return False
        except Locked:
            return True

    def _hold(self, number: int, held: ExitStack) -> bool:
        try:
            held.enter_context(lock(self._lock(number), "a trial"))
        except Locked:
            return False
        return True

    def _lock(self, number: int) -> Path:
        return self.path / "locks" / f"trial-{number:04d}"

    def _seed(self, number: int) -> None:
        from optuna.samplers import RandomSampler, TPESampler

        seed = seed_for(self.name, number) % 2**32
        if self.spec.sampler == "random":
            self.optuna.sampler = RandomSampler(seed=seed)
        else:
            self.optuna.sampler = TPESampler(n_startup_trials=self.spec.startup, seed=seed)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Choosing a trial, one process at a time; it takes milliseconds."""
        with ExitStack() as held:
            while True:
                try:
                    held.enter_context(lock(self.path / ".lock", "choosing a trial"))
                    break
                except Locked:
                    time.sleep(0.05)
            yield


def open_named(root: Path, name: str | None) -> Study:
    """A study by name or unique beginning; the newest if no name is given.

    Raises:
        LookupError: None, or several.
        NoOptuna: The extra is not installed.
        Damaged: Its files are not what was written.
    """
    files = sorted((root / FOLDER).glob(f"*/{STUDY_FILE}"), key=lambda p: p.stat().st_mtime, reverse=True)
    names = [p.parent.name for p in files]
    if not names:
        raise LookupError(f"there are no studies in {root / FOLDER}; start one with `iter tune recipe=NAME`")
    hits = [n for n in names if n == name] or [n for n in names if n.startswith(name or "")]
    if name is not None and len(hits) != 1:
        what = f"{len(hits)} studies begin with {name!r}" if hits else f"no study {name!r} in {root / FOLDER}"
        near = "" if hits or not (near := nearest(name, names)) else f". Did you mean {near}?"
        raise LookupError(f"{what}; there are: {', '.join((hits or names)[:8])}{near}")
    path = root / FOLDER / hits[0]
    about = read_document(path / STUDY_FILE) or {}
    try:
        spec = TuneSpec.model_validate(about.get("spec"))
    except ValidationError as error:
        raise Damaged(path / STUDY_FILE, f"spec: {explain(error)}") from None
    return Study(path, spec)


def _pruner(spec: TuneSpec) -> optuna.pruners.BasePruner:
    from optuna import pruners

    if spec.pruner == "median":
        return pruners.MedianPruner(n_startup_trials=spec.startup)
    if spec.pruner == "halving":
        return pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=REDUCTION)
    return pruners.NopPruner()
