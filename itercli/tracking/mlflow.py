"""MLflow: a SQLite file beside the runs, or any tracking server."""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field

from itercli.registry import register
from itercli.tracking.base import About, ModelFiles, Point, SampleTable, Sink, Tracker, flat

MOST_METRICS, MOST_PARAMS = 1000, 100  # of one request
LONGEST_PARAM = 500
STATES = {"finished": "FINISHED", "failed": "FAILED", "running": "RUNNING"}


@register("tracker", "mlflow")
class MLflow(Tracker):
    """Options of MLflow."""

    PACKAGE = EXTRA = "mlflow"

    uri: str | None = Field(
        None, description="Server or store; none: MLFLOW_TRACKING_URI, else mlflow.db beside the runs."
    )
    experiment: str = "itercli"
    samples: int = Field(0, ge=0, description="Rows of a sample table for each iteration.")
    model: Literal[False, "last", "best"] = Field(
        False, description="Log the last or the best model's files when the run is finished."
    )

    def open(self, about: About) -> Sink:
        return MLflowSink(self, about)


class MLflowSink(Sink):
    """The run in MLflow; its id is in `memory`."""

    def __init__(self, spec: MLflow, about: About) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        self._metric = Metric
        runs = about.folder.parents[1].resolve()
        uri = spec.uri or os.environ.get("MLFLOW_TRACKING_URI")
        self._client = MlflowClient(tracking_uri=uri or _database(runs / "mlflow.db"))
        if "id" not in about.memory:
            found = self._client.get_experiment_by_name(spec.experiment)
            place = None if uri else (runs / "mlflow-artifacts").as_uri()
            name = spec.experiment
            experiment = found.experiment_id if found else self._client.create_experiment(name, place)
            tags = {"recipe": ", ".join(about.tags), **({"group": about.group} if about.group else {})}
            run = self._client.create_run(experiment, run_name=about.name, tags=tags)
            about.memory["id"] = run.info.run_id
        self._id = about.memory["id"]
        if not about.memory.get("begun"):
            params = [Param(_name(k), str(v)[:LONGEST_PARAM]) for k, v in flat(about.config).items()]
            for some in _batches(params, MOST_PARAMS):
                self._client.log_batch(self._id, params=some)
            text = yaml.safe_dump(about.config, sort_keys=False, allow_unicode=True)
            self._client.log_text(self._id, text, "config.yaml")
            about.memory["begun"] = True
        self._client.update_run(self._id, status="RUNNING")

    def log(self, points: Iterable[Point]) -> None:
        now = int(time.time() * 1000)
        metrics = [self._metric(_name(n), v, now, p.at) for p in points for n, v in p.values.items()]
        for some in _batches(metrics, MOST_METRICS):
            self._client.log_batch(self._id, metrics=some)

    def table(self, table: SampleTable) -> None:
        columns = {c: [row[n] for row in table.rows] for n, c in enumerate(table.columns)}
        self._client.log_dict(self._id, columns, f"samples/iteration-{table.iteration:02d}.json")

    def model(self, model: ModelFiles) -> None:
        self._client.log_artifacts(self._id, str(model.path), f"model/{model.version.replace('@', '-')}")

    def close(self, state: str, summary: dict[str, Any]) -> None:
        for name, value in {"state": state, **summary}.items():
            self._client.set_tag(self._id, _name(name), str(value))
        self._client.set_terminated(self._id, STATES.get(state, "KILLED"))


def _database(path: Path) -> str:
    """Address of a SQLite store, made if it isn't there: whole, since a half-made one can't be mended."""
    from mlflow import MlflowClient

    if not path.exists():
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".mlflow-") as scratch:
            made = Path(scratch) / path.name
            MlflowClient(tracking_uri=f"sqlite:///{made}").search_experiments()
            with suppress(FileExistsError):  # another run was quicker
                os.link(made, path)
    return f"sqlite:///{path}"


def _batches(items: Sequence[Any], size: int) -> Iterator[list[Any]]:
    return (list(items[i : i + size]) for i in range(0, len(items), size))


def _name(text: str) -> str:
    """A name that MLflow accepts: ``pass@1`` is ``pass_at_1``."""
    return re.sub(r"[^\w\-. :/]", "_", text.replace("@", "_at_"))
