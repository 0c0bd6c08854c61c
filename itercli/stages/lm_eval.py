"""Stage `lm_eval`: tasks of lm-evaluation-harness, to see what training made a model forget.

The harness (https://github.com/EleutherAI/lm-evaluation-harness) brings the tasks, their prompts
and their metrics; the model is loaded once and asked by transformers.
"""

from __future__ import annotations

import hashlib
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from itercli.ledger import file_sha256
from itercli.recipe.errors import nearest
from itercli.registry import how, register
from itercli.resources import ComputeDtype
from itercli.stages.base import ModelLink, Stage, StageContext, StageError
from itercli.training.base import Interrupted

MISSING = "lm-evaluation-harness is not installed"
FIX = "pip install 'itercli[lm-eval]'"
NORMAL_95 = 1.959964  # quantile of the normal distribution for a two-sided interval of 95 %
BOOTSTRAP = 1000  # only for the few metrics that are no means


@register("stage", "lm_eval")
class LmEval(Stage):
    """Evaluates a role's current version; metrics are called TASK.METRIC.

    Intervals are 95 % by the harness's standard errors. Few-shot examples and prompts are the same in
    every iteration.
    """

    OUTPUT = "metrics"
    WORKER = "train"
    VERSION = 2  # since defaults of the model's generation_config.json no longer act

    uses: Literal["lm_eval"] = "lm_eval"
    role: str = Field(description="Role whose current version is evaluated.")
    tasks: tuple[str, ...] = Field(min_length=1, description="Tasks or groups by their names in the harness.")
    include_path: str | None = Field(None, description="Folder with own tasks (YAML).")
    num_fewshot: int | None = Field(None, ge=0, description="Solved examples in the prompt; the task's own.")
    limit: int | None = Field(None, ge=1, description="Only the first so many documents of each task.")
    chat: bool = Field(False, description="Put prompts into the model's chat template.")
    dtype: ComputeDtype = Field("auto", description="auto: bfloat16 on CUDA.")
    batch_size: int = how(default=8, ge=1, description="Requests of a forward pass.")
    threads: int = how(default=1, ge=1, description="CPU threads.")

    def model_links(self) -> list[ModelLink]:
        return [ModelLink("policy", self.role, "current")]

    def key_params(self) -> dict[str, Any]:
        params = super().key_params()
        del params["role"], params["include_path"]  # the model's and the files' hashes say more
        return params

    def check(self) -> list[tuple[str, ...]]:
        if find_spec("lm_eval") is None:
            return [("uses", MISSING, FIX)]
        if self.include_path is not None and not Path(self.include_path).is_dir():
            return [("include_path", f"no such folder: {self.include_path}", "a folder with task files")]
        return []

    def fingerprint(self) -> dict[str, Any]:
        total = hashlib.sha256()
        if self.include_path is not None:
            root = Path(self.include_path)
            for path in sorted(p for p in root.rglob("*") if p.is_file() and "__pycache__" not in p.parts):
                total.update(f"{path.relative_to(root)}\0".encode())
                total.update(bytes.fromhex(file_sha256(path)))
        try:
            return {"lm_eval": version("lm_eval"), "include_path": total.hexdigest()[:16]}
        except PackageNotFoundError:
            return {}

    def run(self, ctx: StageContext) -> None:
        import torch
        from lm_eval import simple_evaluate
        from lm_eval.models.huggingface import HFLM

        from itercli.training.models import compute_dtype, load_model, load_tokenizer

        manager = self._manager(ctx)
        torch.set_num_threads(self.threads)
        ref = ctx.models["policy"]
        model = load_model(ref, dtype=compute_dtype(self.dtype), trainable=False)
        model.to("cuda" if torch.cuda.is_available() else "cpu")
        done = 0

        class Policy(HFLM):
            """The harness's model that stops when the run does, and shows that it is alive."""

            def _model_call(self, inps: Any, *args: Any, **kwargs: Any) -> Any:
                beat(len(inps))
                return super()._model_call(inps, *args, **kwargs)

            def _model_generate(self, context: Any, *args: Any, **kwargs: Any) -> Any:
                beat(len(context))
                return super()._model_generate(context, *args, **kwargs)

        def beat(requests: int) -> None:
            nonlocal done
            if ctx.stopping():
                raise Interrupted
            done += requests
            ctx.progress(done, None, "requests")

        found = simple_evaluate(
            model=Policy(pretrained=model, tokenizer=load_tokenizer(ref), batch_size=self.batch_size),
            tasks=list(self.tasks),
            num_fewshot=self.num_fewshot,
            limit=self.limit,
            apply_chat_template=self.chat,
            task_manager=manager,
            bootstrap_iters=BOOTSTRAP,
            log_samples=False,
        )
        assert found is not None
        metrics = metrics_of(found)
        if not metrics:
            raise StageError(f"{ctx.name}: {', '.join(self.tasks)} gave no metric")
        ctx.finish_file(
            "results.json", {k: found.get(k) for k in ("results", "versions", "n-shot", "n-samples")}
        )
        ctx.finish_metrics(metrics)

    def _manager(self, ctx: StageContext) -> Any:
        """The harness's index of tasks; its own thousands are read only if they are needed.

        Raises:
            StageError: It knows no such task.
        """
        from lm_eval.tasks import TaskManager

        if self.include_path is not None:
            own = TaskManager(include_path=self.include_path, include_defaults=False)
            if all(task in own.all_tasks for task in self.tasks):
                return own
        manager = TaskManager(include_path=self.include_path)
        for task in self.tasks:
            if not manager.match_tasks([task]):
                near = nearest(task, manager.all_tasks)
                hint = f" Did you mean {near}?" if near else ""
                raise StageError(
                    f"{ctx.name}: no task {task!r} in lm-evaluation-harness {version('lm_eval')}.{hint} "
                    "`lm-eval ls tasks` lists them"
                )
        return manager


def metrics_of(found: dict[str, Any]) -> dict[str, Any]:
    """TASK.METRIC -> value with its interval, from what `simple_evaluate` gives.

    The harness names a metric ``acc,none``: after the comma stands the filter of the answers,
    which is shown only if there is one.
    """
    metrics: dict[str, Any] = {}
    for task, values in found["results"].items():
        count = (found.get("n-samples") or {}).get(task, {}).get("effective")
        for name, value in values.items():
            metric, _, kept_by = name.partition(",")
            if not isinstance(value, int | float) or metric.endswith("_stderr") or "," not in name:
                continue
            error = values.get(f"{metric}_stderr,{kept_by}")
            label = f"{task}.{metric}" + (f"/{kept_by}" if kept_by != "none" else "")
            metrics[label] = float(value)
            if isinstance(error, int | float) and count is not None:
                reach = NORMAL_95 * error
                metrics[label] = {
                    "value": float(value),
                    "low": float(value - reach),
                    "high": float(value + reach),
                    "prompts": int(count),
                }
    return metrics
