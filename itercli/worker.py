"""A worker process: runs stages that the engine sends, holds models between them.

Started as ``python -m itercli.worker IN OUT`` where IN and OUT are inherited pipe ends.
Messages are JSON lines; bulk data goes through files. Standard output and error go to the
run's log, so nothing that a library prints can disturb the protocol.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import resource
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from itercli import ledger, registry
from itercli.engine.context import Context, StoredArtifact, model_ref
from itercli.engine.covered import Guard, verify
from itercli.engine.files import Locked
from itercli.engine.lending import lenders, note_attempt
from itercli.engine.parent import die_with_parent
from itercli.engine.store import Entry, Store
from itercli.errors import IterError
from itercli.plugins import Code
from itercli.recipe.schema import parse_stage
from itercli.records import ModelRef
from itercli.resources import Resources
from itercli.stages.base import Stage
from itercli.training.base import Interrupted

LOCK_POLL_SECONDS = 0.2


class Worker:
    """The message loop. Stages run in the main thread, messages are read in another."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self._in = os.fdopen(read_fd, "r", encoding="utf-8")
        self._out = os.fdopen(write_fd, "w", encoding="utf-8", buffering=1)
        self._out_lock = threading.Lock()
        self._orders: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
        self._stop = threading.Event()
        self._shared: dict[str, Any] = {}

    def send(self, message: dict[str, Any]) -> None:
        """Send one message to the engine; exits if the engine is gone."""
        try:
            with self._out_lock:
                self._out.write(json.dumps(message, ensure_ascii=False, default=str) + "\n")
        except BrokenPipeError:
            os._exit(1)

    def main(self) -> int:
        """Serve until told to close."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the engine decides
        signal.signal(signal.SIGTERM, lambda *_: self._stop.set())
        threading.Thread(target=self._read, name="messages", daemon=True).start()
        self.send({"t": "ready", "pid": os.getpid()})
        while (order := self._orders.get()) is not None:
            self._run(order)
        for value in self._shared.values():
            close = getattr(value, "close", None)
            if close:
                close()
        return 0

    def _read(self) -> None:
        for line in self._in:
            message = json.loads(line)
            if message["cmd"] == "stop":
                self._stop.set()
            elif message["cmd"] == "run":
                self._orders.put(message)
            elif message["cmd"] == "close":
                break
        else:
            os._exit(1)  # the engine is gone: what is journaled is safe, the rest is not wanted
        self._orders.put(None)

    def _run(self, order: dict[str, Any]) -> None:
        entry = Store(Path(order["store"])).entry(order["kind"], order["key"])
        try:
            ledger.take_over(order["files"])
            for plugin in order["plugins"]:
                code = Code.ordered(plugin)
                registry.load_plugin(code.path, code)
            waited = False
            while True:
                entry.path.mkdir(parents=True, exist_ok=True)
                try:
                    with entry.lock():
                        self._locked(order, entry)
                    return
                except Locked as error:
                    if not waited:
                        self._event("waiting", holder=error.holder)
                    waited = True
                    self.send(
                        {
                            "t": "progress",
                            "done": 0,
                            "total": None,
                            "unit": "",
                            "metrics": {"status": f"waiting for {error.holder}"},
                        }
                    )
                    if self._stop.wait(LOCK_POLL_SECONDS):
                        raise Interrupted from None
        except Interrupted:
            self.send({"t": "stopped"})
        except BaseException as error:
            traceback.print_exc()
            self.send(
                {
                    "t": "failed",
                    "error": str(error) or type(error).__name__,
                    "type": type(error).__name__,
                    "expected": isinstance(error, IterError | OSError),
                    "traceback": traceback.format_exc(),
                }
            )

    def _event(self, kind: str, **fields: Any) -> None:
        self.send({"t": "event", "event": kind, "fields": fields})

    def _locked(self, order: dict[str, Any], entry: Entry) -> None:
        """Run the stage while holding its lock, unless somebody finished it meanwhile."""
        if order["unfit"] and order["unfit"] == entry.identity:
            self._event("set_aside", reason=order["reason"], path=str(entry.set_aside()))
        elif entry.broken:
            self._event("set_aside", reason=entry.broken, path=str(entry.set_aside()))
        manifest = entry.manifest
        if manifest is not None:
            self.send({"t": "done", "manifest": manifest, "reused": True})
            return
        started = time.monotonic()
        store = Store(Path(order["store"]))
        inputs = {
            slot: [StoredArtifact(store.entry(i["kind"], i["key"]), i["id"]) for i in items]
            for slot, items in order["inputs"].items()
        }
        models = {slot: _model(store, use) for slot, use in order["models"].items()}
        stage = parse_stage(order["raw"]).resolved(Resources(**order["resources"]))
        with ledger.watching() as files:
            verify(order, stage)
            origin = {
                # Of an input that still grows the content isn't known: its stage looks at the rows.
                "inputs": {
                    s: [_digest(a.entry) for a in i] for s, i in inputs.items() if s not in stage.STREAMS
                },
                "models": {slot: model.digest for slot, model in models.items()},
            }
            if entry.continue_from(origin):
                self._event("started_over", reason="what it works on was made again with other content")
            trained = {s: _made(store, use["node"]) for s, use in order["models"].items() if use["node"]}
            if stage.ROWWISE:
                note_attempt(
                    entry,
                    {"ingredients": order["ingredients"], "inputs": _inputs(inputs), "models": trained},
                )
            made = {slot: model["digest"] for slot, model in trained.items()}
            ctx = Context(
                name=order["name"],
                iteration=order["iteration"],
                seed=order["seed"],
                entry=entry,
                inputs=dict(inputs),
                models=models,
                shared=self._shared,
                stop=self._stop,
                send=self.send,
                lenders=lambda: lenders(store, entry, stage, order["ingredients"], made),
            )
            self._guarded(order, stage, ctx, files)
        manifest = entry.finish(
            ingredients=order["ingredients"],
            inputs=_inputs(inputs),
            models=trained,
            rows=ctx.row_count,
            record=ctx.record,
            counts=ctx.counts,
            metrics=ctx.metrics,
            seconds=time.monotonic() - started,
            work={
                "resumed_rows": ctx.resumed_rows,
                **({"borrowed_rows": ctx.borrowed_rows} if ctx.borrowed_rows else {}),
                "peak_memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            },
        )
        self.send({"t": "done", "manifest": manifest, "reused": False})

    def _guarded(self, order: dict[str, Any], stage: Stage, ctx: Context, files: ledger.Watch) -> None:
        """Run a stage; if what its key covers was written to meanwhile, nothing that it did is kept.

        Raises:
            Changed: It was.
        """
        guard = Guard(files, self._stop)
        try:
            with guard:
                try:
                    stage.run(ctx)
                finally:
                    ctx.close()
            if reason := guard.changed():
                raise ledger.Changed(reason)
            verify(order, stage)  # also what is new beside the files that were there
        except BaseException as error:
            reason = guard.changed()
            if not reason and not isinstance(error, ledger.Changed):
                raise
            Entry(ctx.work, order["kind"], order["key"]).discard()
            if not reason:
                raise
            raise ledger.Changed(f"{reason}; nothing of this stage is stored. {ledger.AGAIN}") from error


def _inputs(inputs: dict[str, list[StoredArtifact]]) -> dict[str, list[dict[str, str]]]:
    return {
        slot: [{"id": a.label, "key": a.entry.key, "digest": _digest(a.entry)} for a in artifacts]
        for slot, artifacts in inputs.items()
    }


def _digest(entry: Entry) -> str:
    manifest = entry.manifest
    return manifest["digest"] if manifest else ""


def _made(store: Store, node: dict[str, str]) -> dict[str, str]:
    return {**node, "digest": _digest(store.entry(node["kind"], node["key"]))}


def _model(store: Store, use: dict[str, Any]) -> ModelRef:
    if use["node"] is None:
        return ModelRef(
            base=use["path"],
            adapter=use["adapter"],
            version=use["version"],
            digest=use["digest"],
            trust_remote_code=use["trust_remote_code"],
            template_date=use["template_date"],
        )
    ref = model_ref(store.entry(use["node"]["kind"], use["node"]["key"]), use["version"], use["path"])
    changes = {name: use[name] for name in ("trust_remote_code", "template_date")}
    # Where there was nothing to train on it is still the start model, adapter and all.
    if ref.digest == use["digest"]:
        changes["adapter"] = use["adapter"]
    return ref.model_copy(update=changes)


def main() -> int:
    """Entry point of the process."""
    die_with_parent()
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1)  # the engine asks for a stack dump before it kills a hung worker
    own = logging.getLogger("itercli")  # which checkpoint a training goes on from, and the like
    own.addHandler(logging.StreamHandler())
    own.setLevel(logging.INFO)
    registry.load_builtin()
    return Worker(int(sys.argv[1]), int(sys.argv[2])).main()


if __name__ == "__main__":
    sys.exit(main())
elif __name__ == "__mp_main__":
    # Python runs this in every process that a library spawns from a worker. vLLM's engine would
    # live on after its worker was killed, and Ctrl-C would end it at once: signals to the process
    # group are for the command, which lets its workers finish the row in hand.
    die_with_parent()
    if os.getppid() == 1:  # killed before the line above
        os._exit(1)
    os.setpgid(0, 0)
