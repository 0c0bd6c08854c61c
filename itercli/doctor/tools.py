"""Tools that verifiers call, the sandbox they run in, models, caches and the environment."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from itercli.doctor import Check
from itercli.environments.scienceworld_jvm import find_java

_INSTALL = "scripts/setup.sh gets it without root; else apt install iverilog, brew install icarus-verilog"
_ENVIRONMENT = (
    "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE",
    "HF_DATASETS_OFFLINE",
    "HF_HOME",
    "HF_ENDPOINT",
    "WANDB_MODE",
    "CUDA_VISIBLE_DEVICES",
    "OMP_NUM_THREADS",
    "ITER_CACHE",
    "ITER_TOOLS",
    "ITER_SANDBOX",
    "JAVA_HOME",
    "JAVA_TOOL_OPTIONS",
)


def checks() -> Iterator[Check]:
    """External programs and the sandbox."""
    for name in ("iverilog", "vvp"):
        yield check_tool(name)
    yield check_java()
    yield check_sandbox()


def find_tool(name: str) -> Path | None:
    """A program on the PATH, else unpacked in $ITER_TOOLS or in .tools here, as verifiers look for it."""
    found = shutil.which(name)
    if found:
        return Path(found)
    own = os.environ.get("ITER_TOOLS")
    for folder in ([Path(own)] if own else []) + [Path.cwd() / ".tools"]:
        path = folder / "usr/bin" / name
        if os.access(path, os.X_OK):
            return path
    return None


def check_tool(name: str) -> Check:
    """Whether Icarus Verilog's program `name` is there and starts."""
    path = find_tool(name)
    if path is None:
        return Check("tools", name, "warn", "not found: Verilog recipes can't check answers", _INSTALL)
    try:
        done = subprocess.run([path, "-V"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check("tools", name, "warn", f"{path} does not start: {error}", _INSTALL)
    # The exit code says little: an unpacked iverilog, which is called with -B, prints its
    # version and then misses its parts. vvp prints to stderr.
    version = re.search(r"Icarus Verilog .*?version (\S+)", done.stdout + done.stderr)
    if version is None:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return Check("tools", name, "warn", f"{path} does not start: {last}", _INSTALL)
    return Check("tools", name, "ok", f"{version[1]} ({path})")


def check_java() -> Check:
    """Whether there is the Java that ScienceWorld needs, and starts."""
    fix = "apt install default-jre-headless, brew install openjdk"
    java = find_java()
    if java is None:
        return Check("tools", "java", "ok", f"not here; only ScienceWorld needs it ({fix})")
    try:
        done = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check("tools", "java", "warn", f"{java} does not start: {error}", fix)
    version = re.search(r'version "([^"]+)"', done.stderr)
    if version is None:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return Check("tools", "java", "warn", f"{java} does not start: {last}", fix)
    return Check("tools", "java", "ok", f"{version[1]} ({java})")


def check_sandbox() -> Check:
    """How well what a model writes is shut in."""
    try:
        from itercli.engine.sandbox import WAY_OUT, isolation, isolation_reason, rights

        level, reason = isolation(), isolation_reason()
    except Exception as error:
        return Check("tools", "sandbox", "warn", f"{type(error).__name__}: {error}", "check ITER_SANDBOX")
    if level != "limits":
        return Check("tools", "sandbox", "ok", f"{level}: no network, no files outside, no strays")
    return Check(
        "tools", "sandbox", "warn", f"limits only ({reason}): programs under test {rights()}", WAY_OUT
    )


def model_checks() -> Iterator[Check]:
    """The models with a short name."""
    from itercli.models import known

    for model in known():
        if model.state == "missing":
            yield Check("models", model.name, "fail", f"not in {model.path}", "reinstall itercli")
        elif model.state == "available":
            yield Check("models", model.name, "ok", f"not here; `iter models pull {model.name}`")
        else:
            yield Check("models", model.name, "ok", f"{model.state} ({model.path})")


def environment_checks() -> Iterator[Check]:
    """Cache folders, and variables that change what we do."""
    from itercli.models import cache_root, hub

    for name, folder in (("itercli cache", cache_root()), ("hub cache", hub.hub_cache())):
        place = next(p for p in (folder, *folder.parents) if p.exists())
        if os.access(place, os.W_OK):
            yield Check(
                "environment", name, "ok", str(folder) + ("" if folder.exists() else " (not there yet)")
            )
        else:
            variable = "ITER_CACHE" if name.startswith("iter") else "HF_HOME"
            fix = f"set {variable} to a folder of your own"
            yield Check("environment", name, "warn", f"{folder} is not writable", fix)
    offline = "the hub is off" if hub.offline() else "the hub may be used by `iter models pull`"
    yield Check("environment", "hub access", "ok", offline)
    found = [f"{name}={os.environ[name]}" for name in _ENVIRONMENT if name in os.environ]
    yield Check("environment", "variables", "ok", " ".join(found) or "none that matter are set")
