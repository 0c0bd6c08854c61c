"""Run a plan: schedule nodes onto workers, resume, stream, stop in order.

The runner is one thread that waits for messages. A node starts when its inputs are
finished (or, for streamed slots, under way) and its worker is free. Everything durable is
done by the workers in the store, so the runner can be killed at any moment.
"""

from __future__ import annotations

import os
import selectors
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from itercli import __version__
from itercli.engine.devices import gpu_count
from itercli.engine.memory import explain, shell_limits
from itercli.engine.runs import Run
from itercli.engine.signals import Debounce
from itercli.engine.status import Status, status_of, statuses
from itercli.engine.workers import WorkerDied, WorkerProcess
from itercli.ledger import large_files
from itercli.preflight import problems
from itercli.recipe.errors import RecipeError
from itercli.recipe.plan import Node, Plan, build_plan, node_id
from itercli.sampling.base import SamplerSpec

TICK_SECONDS = 0.25
STOPPED_SECONDS = 5.0  # so long between two looks: this process was stopped, or busy


class Display(Protocol):
    """Shows what is going on; all calls come from the runner's thread."""

    def planned(self, plan: Plan, status: dict[str, Status]) -> None:
        """The plan is made, the run begins."""

    def started(self, node: Node, status: Status) -> None:
        """A node was given to a worker."""

    def progress(self, node: Node, message: dict[str, Any]) -> None:
        """A node made progress."""

    def finished(self, node: Node, manifest: dict[str, Any], reused: bool) -> None:
        """A node is done."""

    def note(self, text: str) -> None:
        """Something worth a line."""

    def close(self) -> None:
        """The run ends."""


class RunFailed(RuntimeError):
    """A stage failed; what is finished stays."""


class RunInterrupted(Exception):
    """The run was stopped by a signal and can be continued."""

    def __init__(self, signum: int) -> None:
        self.signum = signum
        super().__init__(f"stopped by {signal.Signals(signum).name}")


@dataclass
class Outcome:
    """What a run did: counts of nodes by action, and whether the loop ended early."""

    ran: int = 0
    reused: int = 0
    stopped_early: str = ""
    manifests: dict[str, dict[str, Any]] = field(default_factory=dict)


class Runner:
    """Executes one plan in one run folder."""

    def __init__(self, plan: Plan, run: Run, display: Display) -> None:
        self.plan = plan
        self.run = run
        self.display = display
        self.config = plan.recipe.config
        self.status: dict[str, Status] = {}
        self.done: dict[str, dict[str, Any]] = {}
        self.running: dict[str, WorkerProcess] = {}
        self.workers: dict[str, WorkerProcess] = {}
        self.tries: dict[str, int] = {}
        self.outcome = Outcome()
        self._selector = selectors.DefaultSelector()
        self._logs: Path | None = None
        self._reported: set[tuple[str, str]] = set()
        self._signal = 0
        self._counts = Debounce()
        self._looked = time.monotonic()
        self._failure: str = ""
        self._told: set[str] = set()

    def execute(self) -> Outcome:
        """Run until everything is done.

        Raises:
            RecipeError: The data or models don't do for what the recipe wants of them.
            RunFailed: A stage failed or its worker died.
            RunInterrupted: SIGINT or SIGTERM; a second one kills the workers at once.
        """
        self.status = statuses(self.plan, self.run.store)
        self._reported = {(m["node"], m["key"]) for m in self.run.metrics()}
        self.display.planned(self.plan, self.status)
        self._reuse()
        if self._remaining():
            self._check()
            if limit := shell_limits():
                self.display.note(f"note: {limit}; loading torch alone takes several GiB of it")
            with _signals(self._on_signal):
                try:
                    self._loop()
                finally:
                    self._close()
        if self._failure:
            raise RunFailed(self._failure)
        if self._signal:
            raise RunInterrupted(self._signal)
        self.outcome.manifests = self.done
        return self.outcome

    # -- scheduling ---------------------------------------------------------------------

    def _check(self) -> None:
        """Look at all data that what is to run will read, before anything is computed."""
        due = {n.id for n in self._remaining()}
        if found := problems(self.plan, deep=True, store=self.run.store, due=due):
            raise RecipeError(found, self.config.name)

    def _remaining(self) -> list[Node]:
        return [n for n in self.plan.nodes.values() if n.id not in self.done]

    def _reuse(self) -> None:
        """Finish what is there already, once all that it was made from is settled."""
        plan = None
        while plan is not self.plan:  # it can get shorter on the way, see `_maybe_stop_early`
            plan = self.plan
            for node in list(plan.nodes.values()):
                if node.id in self.done or node.id not in self.plan.nodes:
                    continue
                if self.status[node.id].action != "reuse" or any(i not in self.done for i in node.needs):
                    continue
                manifest = self.run.store.entry(node.kind, node.key).manifest
                if manifest is None:  # it is the same as a node that is still to run
                    continue
                if any(i in self.tries for i in node.needs):  # made again just now, perhaps differently
                    self.status[node.id] = status_of(node, self.plan, self.run.store, self.done)
                if self.status[node.id].action == "reuse":
                    self._finish(node, manifest, reused=True)

    def _loop(self) -> None:
        while True:
            self._reuse()
            if not self._remaining():
                return
            if not self._ending:
                self._start_ready()
            if not self.running:
                if self._ending:
                    return
                raise RunFailed(f"nothing can run, but {self._remaining()[0].id} is not done")
            if self._ending:
                self._tell_to_stop()
            for key, _ in self._selector.select(TICK_SECONDS):
                self._receive(key.data)
            self._watch()

    def _start_ready(self) -> None:
        busy = {w.kind for w in self.running.values()}
        for node in self._remaining():
            if self._ending:
                return
            kind = node.stage.WORKER
            twin_runs = any(self.plan.nodes[i].key == node.key for i in self.running)
            if self.status[node.id].action == "reuse" or twin_runs or kind in busy or not self._ready(node):
                continue
            if not self._make_room(node):
                continue
            self._start(node)
            busy.add(kind)

    def _ready(self, node: Node) -> bool:
        rule = self.config.stop
        if rule is not None and node.scope != "before":
            # Whether there is another iteration is decided by the last one's evaluation.
            last = node.iteration if node.scope == "after" else node.iteration - 1
            if last >= 1 and node_id("loop", last, rule.stage) not in self.done:
                return False
        for slot, ids in node.inputs.items():
            for i in ids:
                # What is about to be set aside must not be read instead of what replaces it.
                streams = slot in node.stage.STREAMS and i in self.running and not self.status[i].unfit
                if i not in self.done and not streams:
                    return False
        return all(m.node is None or m.node in self.done for m in node.models.values())

    def _make_room(self, node: Node) -> bool:
        """Give a stage what sampling and training share; False: not possible yet.

        That is the memory of a single GPU, which only a process's end gives back for sure, or the
        cores: two pools of threads on the same cores take many times longer than one after the other.
        """
        rule, gpus = self.config.executor.colocate, gpu_count()
        other = self.workers.get({"train": "sample", "sample": "train"}.get(node.stage.WORKER, ""))
        if other is None or rule == "keep" or (rule == "auto" and gpus > 1):
            return True
        if other.node is not None:
            elsewhere = _draws_elsewhere(node) or _draws_elsewhere(self.plan.nodes[other.node])
            return rule == "auto" and gpus == 0 and elsewhere
        if rule == "exit" or gpus == 1:
            self._end_worker(other)
        return True

    def _start(self, node: Node) -> None:
        status = self.status[node.id]
        entry = self.run.store.entry(node.kind, node.key)
        worker = self.workers.get(node.stage.WORKER) or self._new_worker(node.stage.WORKER)
        self.tries[node.id] = self.tries.get(node.id, 0) + 1
        self.run.event(
            "stage_started", node=node.id, key=node.key, action=status.action, reason=status.reason
        )
        self.display.started(node, status)
        self.run.link(node.id, entry)
        worker.node = node.id
        worker.heard = time.monotonic()
        self.running[node.id] = worker
        worker.send(
            {
                "cmd": "run",
                "name": node.name,
                "iteration": node.iteration,
                "seed": node.seed,
                "raw": node.raw,
                "resources": asdict(self.plan.resources),
                "plugins": [code.order() for code in self.plan.recipe.code],
                "store": str(self.run.store.root.resolve()),
                "kind": node.kind,
                "key": node.key,
                "unfit": status.unfit,
                "reason": status.reason,
                "itercli": __version__,
                "ingredients": node.ingredients,
                "files": large_files(),
                "inputs": {slot: [self._place(i) for i in ids] for slot, ids in node.inputs.items()},
                "models": {
                    slot: {
                        "version": use.label,
                        "node": self._place(use.node) if use.node else None,
                        "path": str(self.plan.roots[use.role].path or ""),
                        "adapter": str(self.plan.roots[use.role].adapter or "") or None,
                        "digest": self.plan.roots[use.role].digest,
                        "trust_remote_code": self.plan.roots[use.role].trust_remote_code,
                        "template_date": self.plan.roots[use.role].template_date,
                    }
                    for slot, use in node.models.items()
                },
            }
        )

    def _place(self, i: str) -> dict[str, str]:
        node = self.plan.nodes[i]
        return {"id": i, "kind": node.kind, "key": node.key}

    # -- workers ------------------------------------------------------------------------

    def _new_worker(self, kind: str) -> WorkerProcess:
        if self._logs is None:
            self._logs = self.run.new_log_folder()
        python = self.config.executor.python.get(kind, sys.executable)  # type: ignore[call-overload]
        worker = WorkerProcess(kind, self._logs / f"{kind}.log", python, self.config.executor.sandbox)
        self.workers[kind] = worker
        self._selector.register(worker.fd, selectors.EVENT_READ, worker)
        self.run.event("worker_started", worker=kind, pid=worker.process.pid)
        return worker

    def _end_worker(self, worker: WorkerProcess) -> None:
        self._selector.unregister(worker.fd)
        del self.workers[worker.kind]
        worker.close()

    def _receive(self, worker: WorkerProcess) -> None:
        messages = worker.receive()
        if messages is None:
            self._selector.unregister(worker.fd)
            del self.workers[worker.kind]
            self._lost(worker, worker.died())
            return
        for message in messages:
            if worker.node is not None:
                self._handle(self.plan.nodes[worker.node], worker, message)

    def _handle(self, node: Node, worker: WorkerProcess, message: dict[str, Any]) -> None:
        match message["t"]:
            case "progress":
                self.display.progress(node, message)
            case "event":
                fields = message["fields"]
                self.run.event(message["event"], node=node.id, **fields)
                match message["event"]:
                    case "waiting":
                        note = f"another process works on it ({fields['holder']}); waiting"
                    case "set_aside":
                        note = f"{fields['reason']}; set aside as {Path(fields['path']).name} and done again"
                    case "started_over":
                        note = f"{fields['reason']}; started over"
                    case "note":
                        note = fields["text"]
                    case "journal_opened" if fields["repaired"]:
                        note = (
                            f"damaged lines in its journal: {fields['repaired']}; those rows are done again"
                        )
                    case _:
                        return
                self.display.note(f"{node.id}: {note}")
            case "done":
                self._release(worker)
                self._finish(node, message["manifest"], reused=message["reused"])
            case "stopped":
                self._release(worker)
                self.run.event("stage_stopped", node=node.id)
                if not self._ending:
                    self._fail(
                        f"{node.id} stopped though nobody here asked for it: "
                        f"its worker (process {worker.process.pid}) got a SIGTERM from outside"
                    )
            case "failed":
                self._release(worker)
                self.run.event(
                    "stage_failed", node=node.id, **{k: message[k] for k in ("type", "error", "traceback")}
                )
                error = message["error"]
                text = error if message["expected"] else f"{message['type']}: {error}"
                # Of a traceback only what was raised: its lines of code hold all kinds of words.
                raised = [line for line in message["traceback"].splitlines() if line[:1].strip()]
                parts = [
                    f"{node.id} failed: {text}",
                    explain("\n".join([text, *raised])),
                    f"log: {worker.log}",
                ]
                self._fail("\n".join(filter(None, parts)))

    def _release(self, worker: WorkerProcess) -> None:
        if worker.node is not None:
            self.running.pop(worker.node, None)
        worker.node = None

    def _lost(self, worker: WorkerProcess, error: WorkerDied) -> None:
        """A worker is gone: try its stage again if that is allowed, else fail."""
        node = worker.node
        self._release(worker)
        self.run.event("worker_died", worker=worker.kind, node=node, error=str(error), peak=worker.peak)
        if node is None:
            return
        if self._signal:
            return
        if self.tries[node] <= self.config.executor.retries:
            self.display.note(
                f"{node}: {error}\ntrying again ({self.tries[node]} of {self.config.executor.retries})"
            )
            self.status[node] = Status("resume", "its worker died", unfit=self.status[node].unfit)
            return
        self._fail(f"{node} failed: {error}")

    def _watch(self) -> None:
        """Note memory use; end workers that hang.

        Ctrl-Z stops workers and this process alike: time in which nobody could listen does not count.
        """
        now = time.monotonic()
        missed = now - self._looked
        self._looked = now
        for worker in list(self.running.values()):
            worker.watch()
            if missed > STOPPED_SECONDS:
                worker.heard = min(worker.heard + missed, now)
            silent = now - worker.heard
            if silent > self.config.executor.hang_seconds:
                worker.dump_stacks()
                worker.kill()
                self._end_worker(worker)
                what = (
                    f"the {worker.kind} worker hung: not a word for {silent:.0f} s "
                    f"(executor.hang_seconds={self.config.executor.hang_seconds:g}); "
                    f"where it was is in its log"
                )
                self._lost(worker, WorkerDied(worker.report(what)))

    def _close(self) -> None:
        """End the workers, in order if nothing is in hand."""
        for worker in list(self.workers.values()):
            if worker.node is not None:
                worker.kill()
            self._end_worker(worker)
        self._selector.close()

    # -- results ------------------------------------------------------------------------

    def _finish(self, node: Node, manifest: dict[str, Any], *, reused: bool) -> None:
        self.done[node.id] = manifest
        if reused:
            self.outcome.reused += 1
        else:
            self.outcome.ran += 1
            self.run.event(
                "stage_finished",
                node=node.id,
                key=node.key,
                seconds=manifest["seconds"],
                rows=manifest["rows"],
            )
        self.run.link(node.id, self.run.store.entry(node.kind, node.key))
        if manifest["metrics"] and (node.id, node.key) not in self._reported:
            self.run.metric(
                node=node.id,
                iteration=node.iteration,
                stage=node.name,
                key=node.key,
                metrics=manifest["metrics"],
            )
        self.display.finished(node, manifest, reused)
        self._maybe_stop_early(node)
        twin = next((n for n in self._remaining() if n.key == node.key), None)
        if twin is not None:  # which goes on to the next one
            self._finish(twin, manifest, reused=True)

    def _maybe_stop_early(self, node: Node) -> None:
        rule = self.config.stop
        if rule is None or node.name != rule.stage or node.scope == "after":
            return
        best, since, last = -float("inf"), 0, 0
        # In their order, whichever is done first: later iterations can be there from another run.
        for other in self.plan.nodes.values():
            if other.name != rule.stage or other.scope == "after":
                continue
            if other.id not in self.done:
                return
            value = self.done[other.id]["metrics"].get(rule.metric)
            value = value["value"] if isinstance(value, dict) else value
            if value is not None and value > best + rule.min_delta:
                best, since = value, 0
            elif value is not None:
                since += 1
            last = other.iteration
            if since >= rule.patience:
                break
        if since < rule.patience or last >= self.config.iterations:
            return
        self.outcome.stopped_early = (
            f"{rule.stage}.{rule.metric} has not improved for {since} iteration{'s' * (since > 1)}; "
            f"the loop ends after iteration {last}"
        )
        # The same plan with fewer iterations: keys of what is done are unchanged, and what
        # runs after the loop is connected to the iteration that is now the last.
        self.config = self.config.model_copy(update={"iterations": last})
        self.plan = build_plan(replace(self.plan.recipe, config=self.config), like=self.plan)
        self._note_keys()
        self.status = statuses(self.plan, self.run.store)
        self.run.event("stopped_early", node=node.id, reason=self.outcome.stopped_early)
        self.display.note(self.outcome.stopped_early)

    def _note_keys(self) -> None:
        """Put the keys of a changed plan into run.json, so that nothing that it uses is removed."""
        info = self.run.info
        nodes = info.get("nodes", {})
        info["nodes"] = {
            i: {**place, "key": self.plan.nodes[i].key} if i in self.plan.nodes else place
            for i, place in nodes.items()
        }
        self.run.save(info)

    # -- stopping -----------------------------------------------------------------------

    @property
    def _ending(self) -> bool:
        return bool(self._signal or self._failure)

    def _tell_to_stop(self) -> None:
        """Have what is running finish the row or step in hand; each is told once."""
        for node, worker in self.running.items():
            if node not in self._told:
                self._told.add(node)
                worker.send({"cmd": "stop"})

    def _fail(self, text: str) -> None:
        """Remember the first failure; the loop ends when the others have stopped."""
        if not self._failure:
            self._failure = text

    def _on_signal(self, signum: int) -> None:
        # Only a note here: it may come while a stage is being started or a message written.
        if not self._counts():
            return
        if self._signal:  # the second one: at once
            for worker in self.workers.values():
                worker.process.kill()
            name = signal.Signals(signum).name
            text = f"\nended at once by a second signal ({name}); the same command again goes on\n"
            with suppress(OSError):
                os.write(2, text.encode())
            os._exit(128 + signum)
        self._signal = signum
        self.run.event("signal", signal=signal.Signals(signum).name)


def _draws_elsewhere(node: Node) -> bool:
    """Whether a stage's completions come from a server."""
    sampler = getattr(node.stage, "sampler", None)
    return isinstance(sampler, SamplerSpec) and sampler.resolve().REMOTE


class _signals:
    """Route SIGINT and SIGTERM to the runner while it runs."""

    def __init__(self, handle: Callable[[int], None]) -> None:
        self._handle = handle
        self._old: dict[int, Any] = {}

    def __enter__(self) -> None:
        for signum in (signal.SIGINT, signal.SIGTERM):
            self._old[signum] = signal.signal(signum, lambda s, _: self._handle(s))

    def __exit__(self, *exc: object) -> None:
        for signum, old in self._old.items():
            signal.signal(signum, old)
