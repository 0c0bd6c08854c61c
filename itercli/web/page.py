"""Page data as one HTML file that needs no network.

Everything is escaped: Jinja2 escapes what a template prints, the samples are embedded as JSON
and become text nodes (`samples.js`), and a Content-Security-Policy allows the page's own
script and style by their hashes, no request and no inline handler.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from itercli.errors import IterError
from itercli.report.numbers import interval, missing, number
from itercli.report.text import spent
from itercli.web.charts import curve, distribution, iteration, stacked
from itercli.web.picture import picture

if TYPE_CHECKING:
    from jinja2 import Environment

MISSING = "pages need Jinja2: pip install 'itercli[report]'"
OPEN = 12  # curves that are shown at once, those of other stages fold
Row = dict[str, Any]


def render(data: Row) -> str:
    """The page of `itercli.web.data.page_data`.

    Raises:
        IterError: A package of the extra `report` is not installed.
    """
    style, script = asset("style.css"), asset("samples.js")
    policy = (
        f"default-src 'none'; style-src '{digest(style)}'; script-src '{digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    template = environment().get_template("page.html")
    return template.render(
        data=data,
        title=", ".join(run["run"]["name"] for run in data["runs"]),
        metrics=metric_groups(data),
        style=style,
        script=script,
        policy=policy,
        samples=embed(data["samples"]),
    )


@cache
def environment() -> Environment:
    """Templates with escaping, and the filters that they use."""
    try:
        import jinja2
    except ImportError as error:
        raise IterError(MISSING) from error
    made = jinja2.Environment(
        loader=jinja2.FunctionLoader(asset),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "value": value,
        "short": short,
        "spent": spent,
        "count": count,
        "bytes": size,
        "told": told,
    }
    made.globals |= {
        "curve": _markup(curve), "distribution": _markup(distribution), "stacked": _markup(stacked),
        "picture": picture, "iteration": iteration, "headline": headline, "OPEN": OPEN,
    }  # fmt: skip
    return made


@cache
def asset(name: str) -> str:
    """A template, style sheet or script of this package."""
    return files("itercli.web").joinpath("templates", name).read_text(encoding="utf-8")


def digest(content: str) -> str:
    """A source of a Content-Security-Policy: the hash of an inline script or style."""
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def embed(data: Any) -> Any:
    """JSON for inside a script element: nothing in it can end the element or begin a comment."""
    from markupsafe import Markup

    text = json.dumps(data, ensure_ascii=False, allow_nan=False)
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return Markup(text)


def metric_groups(data: Row) -> list[Row]:
    """Metrics by stage, the headline's stage first.

    Returns:
        ``[{stage, metrics: {metric: {run: {iteration: value}}}, iterations, open}]``.
    """
    headlines = [h["metric"] for run in data["runs"] if (h := run["run"]["headline"])]
    groups: dict[str, dict[str, dict[str, Any]]] = {}
    for run in data["runs"]:
        for name, series in run["metrics"].items():
            stage, _, metric = name.partition(".")
            known = {i: v for i, v in series.items() if _known(v)}
            if known:
                groups.setdefault(stage, {}).setdefault(metric, {})[run["run"]["name"]] = known
    ordered = sorted(groups, key=lambda s: not any(h.partition(".")[0] == s for h in headlines))
    found: list[Row] = []
    shown = 0
    for stage in ordered:
        metrics = dict(sorted(groups[stage].items(), key=lambda m: f"{stage}.{m[0]}" not in headlines))
        iterations = sorted({int(i) for runs in metrics.values() for s in runs.values() for i in s})
        shown += len(metrics)
        found.append(
            {"stage": stage, "metrics": metrics, "iterations": iterations,
             "open": shown <= OPEN or not found}
        )  # fmt: skip
    return found


def headline(run: Row) -> Row | None:
    """The headline metric at the start, at its best and at the end, with intervals; or None."""
    known = run["run"]["headline"]
    if not known:
        return None
    series = {int(i): v for i, v in run["metrics"].get(known["metric"], {}).items() if _known(v)}
    if not series:
        return None
    best = run["best"]["iteration"] if run["best"] else None
    first, last = min(series), max(series)
    places = [
        ("first", first),
        *([("best", best)] if best not in (None, first, last) else []),
        ("last", last),
    ]
    return {
        "metric": known["metric"],
        "best": best,
        "values": [
            {"what": what, "iteration": i, "value": series[i]}
            for what, i in {i: (what, i) for what, i in places}.values()
        ],
    }


def value(metric: Any) -> str:
    """``0.531 (.46-.60)``, as in the tables on a terminal."""
    if metric is None:
        return ""
    if not isinstance(metric, Mapping):
        return number(metric) if isinstance(metric, int | float) else str(metric)
    if metric.get("value") is None or metric.get("low") is None:
        return number(metric.get("value")) + missing(dict(metric))
    return f"{number(metric['value'])} ({interval(dict(metric))}{missing(dict(metric))})"


def short(number_: float) -> str:
    """At most four digits, no zeros at the end."""
    return f"{number_:.4g}"


def count(number_: float | None) -> str:
    """``1,024``, or a dash."""
    return "–" if number_ is None else f"{number_:,.0f}"


def size(bytes_: float | None) -> str:
    """``1.2 GiB``."""
    if bytes_ is None:
        return "–"
    return f"{bytes_ / 2**30:.1f} GiB" if bytes_ >= 2**30 else f"{bytes_ / 2**20:.0f} MiB"


def told(option: Any) -> str:
    """A value of a recipe on one line."""
    return option if isinstance(option, str) else json.dumps(option, ensure_ascii=False)


def _known(metric: Any) -> bool:
    return (metric.get("value") if isinstance(metric, dict) else metric) is not None


def _markup(draw: Any) -> Any:
    """A function of a template whose result is SVG already."""

    def drawn(*args: Any) -> Any:
        from markupsafe import Markup

        return Markup(draw(*args))

    return drawn
