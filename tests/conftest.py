"""Shared fixtures: a project folder with the toy recipe, and the `iter` command in a process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

# vLLM imports setuptools, which refuses to start once something has imported distutils.
with suppress(ImportError):
    import setuptools  # noqa: F401

HERE = Path(__file__).parent


@dataclass
class Project:
    """A folder in which `iter` is run."""

    path: Path
    env: dict[str, str] = field(default_factory=lambda: dict(os.environ))

    def iter(self, *args: str, check: bool = True, **kwargs: Any) -> subprocess.CompletedProcess[str]:
        """Run `iter ARGS` to its end."""
        done = subprocess.run(
            [sys.executable, "-m", "itercli", *args],
            cwd=self.path, env=self.env, text=True, capture_output=True, **{"timeout": 300} | kwargs,
        )  # fmt: skip
        if check and done.returncode != 0:
            raise AssertionError(f"iter {' '.join(args)} -> {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def start(self, *args: str) -> subprocess.Popen[str]:
        """Start `iter ARGS` in a process group of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "itercli", *args],
            cwd=self.path, env=self.env, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run_toy(self, *overrides: str, **kwargs: Any) -> subprocess.CompletedProcess[str]:
        """`iter run recipe=toy.yaml OVERRIDES`."""
        return self.iter("run", "recipe=toy.yaml", *overrides, **kwargs)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A folder with the toy recipe, its plugin and its start model."""
    return make_project(tmp_path)


def make_project(path: Path) -> Project:
    """Write the toy recipe, its plugin and its start model into a folder."""
    model = path / "model"
    model.mkdir()
    (model / "config.json").write_text('{"level": 0}')
    (model / "model.safetensors").write_bytes(b"toy")
    plugin = HERE / "toy" / "toy_plugin.py"
    text = (HERE / "toy" / "toy.yaml").read_text().replace("PLUGIN", str(plugin)).replace("MODEL", str(model))
    (path / "toy.yaml").write_text(text)
    return Project(path)


@pytest.fixture
def shared_data() -> Callable[[str], Path]:
    """Finds public test data; skips where it isn't there."""

    def find(name: str) -> Path:
        root = Path(os.environ.get("ITER_TEST_SHARED", HERE.parent.parent / "shared")) / "data" / name
        if not root.exists():
            pytest.skip(f"test data {root} is not there; set ITER_TEST_SHARED")
        return root

    return find
