"""A recipe of one quick stage, to be tuned in a folder of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from itercli.cli.main import main
from tests.conftest import Project

RECIPE = """\
# @package _global_
name: hill
iterations: 3
headline: climb.height
plugins: [PLUGIN]
roles: {policy: {path: MODEL}}
loop:
  climb: {uses: hill, x: 0.5, total: "${iterations}"}
tune:
  space:
    loop.climb.x: {low: 0.0, high: 1.0}
  trials: 2
"""


@pytest.fixture
def hill(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A folder with the recipe; the current one."""
    text = RECIPE.replace("PLUGIN", str(Path(__file__).parent / "hill.py"))
    (project.path / "hill.yaml").write_text(text.replace("MODEL", str(project.path / "model")))
    monkeypatch.chdir(project.path)
    return project


def tune(*line: str) -> int:
    """`iter tune recipe=hill.yaml ...` in this process; the exit code."""
    return main(["tune", "recipe=hill.yaml", *line])


def shown(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The newest study as JSON."""
    capsys.readouterr()
    assert main(["tune", "--json"]) == 0
    return json.loads(capsys.readouterr().out)
