"""The metrics' tables: every number can be read on 80 columns, however many metrics there are."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from itercli.engine.runs import Run
from itercli.report.tables import metric_tables


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Two iterations of a stage with ten metrics; its last one is the headline."""
    found = Run(tmp_path / "runs" / "wide")
    found.path.mkdir(parents=True)
    nodes: dict[str, Any] = {f"iteration-0{i}/win": {"kind": "metrics", "key": "k"} for i in (1, 2)}
    found.save({"nodes": nodes, "headline": "win.metric_9"})
    for i, node in enumerate(nodes, 1):
        values = {f"metric_{n}": {"value": n + i / 10, "low": n, "high": n + 1} for n in range(10)}
        found.metric(node=node, stage="win", iteration=i, key="k", metrics=values)
    return found


@pytest.mark.parametrize("width", [40, 80, 400])
def test_columns_that_do_not_fit_make_a_table_of_their_own(run: Run, width: int) -> None:
    console = Console(file=io.StringIO(), width=width)
    tables = metric_tables(run, width)
    for table in tables:
        console.print(table)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert "…" not in text
    for n in range(10):
        assert f"metric_{n}" in text
        assert f"{n}.100 ({n or ''}.00-{n + 1}.00)" in text
    assert text.index("metric_9") < text.index("metric_0")  # the headline leads
    assert (len(tables) == 1) == (width == 400)
    assert text.count("iter") == len(tables)


def test_a_run_without_metrics_has_no_table(tmp_path: Path) -> None:
    assert metric_tables(Run(tmp_path), 80) == []
