"""Simulators that compile and run a bench with a candidate, inside the sandbox."""

from __future__ import annotations

import functools
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from itercli import ledger
from itercli.engine import sandbox
from itercli.errors import IterError

PRELUDE, BENCH, CANDIDATE = "prelude.sv", "bench.sv", "sample.sv"
MISSING = (
    "Icarus Verilog is not here. Install it (Debian: apt-get install iverilog), or unpack its package "
    "without root rights (apt-get download iverilog; dpkg -x iverilog_*.deb .tools) into .tools or the "
    "folder that ITER_TOOLS names"
)


class ToolMissing(IterError):
    """A simulator is not installed; the message says how to get it."""


@dataclass(frozen=True)
class SimRun:
    """What the tools did.

    Attributes:
        compiled: The compiler ended with success.
        log: The compiler's output.
        output: The simulation's standard output.
        errors: The simulation's standard error.
        program: The compiled program in vvp's text format; empty if there is none.
        ended: How the run ended (`sandbox.Result.reason`).
    """

    compiled: bool
    log: str
    output: str
    errors: str
    program: bytes
    timed_out: bool
    ended: str
    returncode: int
    seconds: float


@dataclass(frozen=True)
class Setup:
    """What surrounds bench and candidate.

    Attributes:
        sample_first: Compile the candidate before the bench.
        prelude: Text compiled before both.
        files: Data files of the bench, by plain name.
        roots: Further modules to elaborate beside the bench's root.
    """

    sample_first: bool = False
    prelude: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    roots: tuple[str, ...] = ()

    def order(self) -> list[str]:
        """File names in the order of compilation."""
        pair = [CANDIDATE, BENCH] if self.sample_first else [BENCH, CANDIDATE]
        return [PRELUDE, *pair] if self.prelude else pair


class Simulator(Protocol):
    """A tool that can run a bench; thread-safe."""

    def version(self) -> str:
        """Name and version, part of stage keys: verdicts depend on it."""
        ...

    def run(self, bench: str, code: str, root: str, limits: sandbox.Limits, setup: Setup) -> SimRun:
        """Compile the bench and the candidate, and run `root`."""
        ...


@dataclass(frozen=True)
class Icarus:
    """Icarus Verilog, with VerilogEval's flags.

    `-n` ends at `$stop`, `-none` turns waveform dumps off. One guest does both steps: with
    the cost of starting one it is a sixth of the work of a small check.
    """

    iverilog: str = "iverilog"
    vvp: str = "vvp"
    ivl_dir: str | None = None
    readable: tuple[str, ...] = ()
    isolation: sandbox.Isolation | None = None

    def version(self) -> str:
        return _version((self.iverilog, "-V"), self.readable)

    def run(self, bench: str, code: str, root: str, limits: sandbox.Limits, setup: Setup) -> SimRun:
        library = ["-B", self.ivl_dir] if self.ivl_dir else []
        compiler = [self.iverilog, *library, "-Wall", "-Winfloop", "-Wno-timescale", "-g2012"]
        compiler += [word for name in (root, *setup.roots) for word in ("-s", name)]
        compiler += ["-o", "a.vvp", *setup.order()]
        modules = ["-M", self.ivl_dir] if self.ivl_dir else []
        runner = [self.vvp, *modules, "-n", "a.vvp", "-none"]
        return _two_steps(compiler, runner, bench, code, limits, setup, self.readable, self.isolation)


@dataclass(frozen=True)
class Svling:
    """svling, a simulator from the package index; slower, needs no system package.

    It depends on `pyslang-dev`, which overwrites `pyslang`: give it an environment of its own.
    svling 0.13 ignores `a.b++` on members of packed structures, with which VerilogEval's benches
    count: they then report 0 mismatches in 0 samples for any design. In the bench it is
    therefore spelled out; in a candidate it is not, and counts as svling runs it.

    Attributes:
        python: Interpreter of that environment.
    """

    python: str

    def version(self) -> str:
        code = "import importlib.metadata as m; print('svling', m.version('svling'))"
        return _version((self.python, "-I", "-c", code), self._readable())

    def _readable(self) -> tuple[str, ...]:
        prefix = Path(self.python).absolute().parent.parent
        base = Path(self.python).resolve().parent.parent
        return tuple({str(prefix), str(base)})

    def run(self, bench: str, code: str, root: str, limits: sandbox.Limits, setup: Setup) -> SimRun:
        svling = [self.python, "-I", "-m", "sling.svling"]
        compiler = [*svling, "--compile-only", "-o", "a.vvp", *setup.order()]
        runner = [self.python, "-I", "-c", _SVLING_RUN, "evvp", "-N", "a.vvp", "-none"]
        bench = _MEMBER_INCREMENT.sub(r"\1 = \1 + 1", bench)
        limits = replace(limits, memory=max(limits.memory or 0, 2 << 30))  # Python maps more than it uses
        done = _two_steps(compiler, runner, bench, code, limits, setup, self._readable())
        return replace(done, errors=_SVLING_SAYS.sub("", done.errors))


_MEMBER_INCREMENT = re.compile(r"\b([A-Za-z_][\w$]*\.[A-Za-z_][\w$]*)\s*\+\+(?=\s*;)")
_SVLING_RUN = "import sys; from sling._native import run_cli; sys.exit(run_cli(sys.argv[1:]))"
_SVLING_SAYS = re.compile(r"^.*: \$finish called at .*\n|^VCD info: .*\n", re.MULTILINE)


def _quote(argv: list[str]) -> str:
    return " ".join("'" + a.replace("'", "'\\''") + "'" for a in argv)


def _two_steps(
    compiler: list[str],
    runner: list[str],
    bench: str,
    code: str,
    limits: sandbox.Limits,
    setup: Setup,
    readable: tuple[str, ...],
    isolation: sandbox.Isolation | None = None,
) -> SimRun:
    # The compiler's output goes to a file, so that standard output holds the simulation alone.
    # All words are ours (paths, flags, a generated name); quoted all the same.
    script = f"{_quote(compiler)} >compile.log 2>&1 || exit 1\n: >compiled\nexec {_quote(runner)}\n"
    with sandbox.tempdir() as folder:
        texts = {**setup.files, PRELUDE: setup.prelude, BENCH: bench, CANDIDATE: code}
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8", errors="replace")
        argv = ["/bin/sh", "-c", script]
        done = sandbox.run(argv, cwd=folder, limits=limits, readable=readable, isolation=isolation)
        compiled = (folder / "compiled").exists()
        return SimRun(
            compiled=compiled,
            log=_read(folder / "compile.log").decode("utf-8", "replace"),
            output=done.stdout.decode("utf-8", "replace"),
            errors=done.stderr.decode("utf-8", "replace"),
            program=_read(folder / "a.vvp") if compiled else b"",
            timed_out=done.timed_out or done.reason == "cpu-time",
            ended=done.reason,
            returncode=done.returncode,
            seconds=done.seconds,
        )


def _read(path: Path, limit: int = 16 << 20) -> bytes:
    # A guest could put a link or a pipe in its place.
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return b""
    with os.fdopen(fd, "rb") as file:
        return file.read(limit)


def _version(argv: tuple[str, ...], readable: tuple[str, ...]) -> str:
    """The first line that a tool prints; it is asked again once its file is another."""
    program = shutil.which(argv[0]) or argv[0]
    try:
        ledger.watch(Path(program))
        stamp = ledger.Stamp.of(os.stat(program))
    except OSError as error:
        raise ToolMissing(f"{argv[0]}: {error.strerror}. {MISSING}") from error
    return _asked(argv, readable, stamp)


@functools.cache
def _asked(argv: tuple[str, ...], readable: tuple[str, ...], stamp: ledger.Stamp) -> str:
    with sandbox.tempdir() as folder:
        try:
            limits = sandbox.Limits(wall=60, memory=2 << 30)
            done = sandbox.run(argv, cwd=folder, limits=limits, readable=readable)
        except OSError as error:
            raise ToolMissing(f"{argv[0]}: {error.strerror}. {MISSING}") from error
    first = done.stdout.decode("utf-8", "replace").strip().split("\n")[0].strip()
    if not first:
        said = done.stderr.decode("utf-8", "replace").strip()[-300:]
        raise ToolMissing(f"{' '.join(argv)} says nothing on its output ({done.reason}): {said}")
    return first


def find_icarus() -> Icarus:
    """Icarus from PATH, else unpacked in the folder ITER_TOOLS, else in .tools here.

    Raises:
        ToolMissing: It is in none of them.
    """
    return _find_icarus(os.environ.get("PATH", ""), os.environ.get("ITER_TOOLS", ""), str(Path.cwd()))


@functools.cache
def _find_icarus(path: str, tools: str, here: str) -> Icarus:
    on_path = shutil.which("iverilog", path=path), shutil.which("vvp", path=path)
    if on_path[0] and on_path[1]:
        prefixes = {str(Path(p).resolve().parent.parent) for p in on_path if p}
        readable = tuple(sorted(prefixes - {"/", "/usr"}))
        return Icarus(on_path[0], on_path[1], readable=readable)
    for folder in [Path(tools)] if tools else []:
        found = _unpacked(folder)
        if found:
            return found
    found = _unpacked(Path(here) / ".tools")
    if found:
        return found
    raise ToolMissing(MISSING)


def _unpacked(folder: Path) -> Icarus | None:
    for root in (folder, *sorted(p for p in folder.glob("*") if p.is_dir())):
        library = next(iter(sorted(root.glob("usr/lib/*/ivl"))), None)
        iverilog, vvp = root / "usr/bin/iverilog", root / "usr/bin/vvp"
        if library and iverilog.is_file() and vvp.is_file():
            base = root.resolve()
            return Icarus(str(iverilog.resolve()), str(vvp.resolve()), str(library.resolve()), (str(base),))
    return None
