"""What tells runs apart, and how sure it is: labels by the options that differ, paired tests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from itercli.engine.runs import Run
from itercli.errors import IterError
from itercli.report.compare import compare
from itercli.report.compare_paired_view import difference

OPTIONS = 3  # that a label has
LONGEST = 24  # characters of a value in it
Row = dict[str, Any]


def labels(names: Sequence[str], config: Sequence[Mapping[str, Any]]) -> list[str]:
    """A label for each run: the options in which it differs (``lr 0.0001, n 8``), else its name.

    Args:
        names: The runs' names.
        config: Differences between their recipes, see `itercli.report.compare_config.differences`.
    """
    made = []
    for name in names:
        parts = [
            f"{option['key'].rpartition('.')[2]} {_short(option['values'][name])}"
            for option in config
            if name in option["values"]
        ]
        more = f" and {len(parts) - OPTIONS} more" if len(parts) > OPTIONS else ""
        made.append(", ".join(parts[:OPTIONS]) + more)
    return made if all(made) and len(set(made)) == len(made) else list(names)


def paired_rows(runs: Sequence[Run]) -> list[Row]:
    """Each metric of each run beside the first run's, prompt by prompt.

    Returns:
        ``[{metric, run, difference, prompts, clusters, up, down, p, p_holm, reason}]``; nothing where
        the runs have no metric in common.
    """
    try:
        pairs = compare(runs)["paired"]
    except (IterError, LookupError, OSError, ValueError):  # the page shows the rest
        return []
    fields = ("metric", "run", "prompts", "clusters", "up", "down", "p", "p_holm", "reason")
    return [
        {field: pair[field] for field in fields}
        | {"difference": difference(pair["difference"]) if pair["difference"] else None}
        for pair in pairs
    ]


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
