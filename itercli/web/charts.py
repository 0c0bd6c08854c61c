"""Charts as SVG, drawn by Vega-Lite; colours are set by the page's style sheet.

An attribute of an SVG gives way to CSS, so the colours here are only names: `style.css` has
a rule for each of `SERIES`, `SHADES` and `LINES`, one for light and one for dark.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from itercli.errors import IterError
from itercli.report.numbers import interval, number

SERIES = [f"#00000{n}" for n in range(1, 9)]
SHADES = [f"#00001{n}" for n in range(1, 6)]  # from the first iteration to the last
LINES = "#000020"
WIDTH, HEIGHT = 330, 190
MISSING = "charts need vl-convert: pip install 'itercli[report]'"
Row = dict[str, Any]
Spec = dict[str, Any]


def curve(metric: str, values: Mapping[str, Mapping[str, Any]]) -> str:
    """A metric by iteration, a line for each run, with intervals where there are any.

    Args:
        values: Run -> iteration (0 is before the loop) -> number, or value with low and high.
    """
    data = [
        {"run": n, "x": int(i), **_point(value), "said": f"{run}, {iteration(i)}: {_said(value)}"}
        for n, (run, series) in enumerate(values.items())
        for i, value in series.items()
    ]
    data = [point for point in data if point["y"] is not None]
    color = _color("run", list(range(len(values))), SERIES)
    shared = {"x": _iterations(data), "color": color}
    y = {"field": "y", "type": "quantitative", "title": None, "scale": {"zero": False, "nice": True}}
    # A band needs two points; where no run has them, bars say the same.
    lone = max((len(series) for series in values.values()), default=0) < 2
    mark = {"type": "rule", "opacity": 0.5} if lone else {"type": "area", "opacity": 0.18}
    spread = {
        "transform": [{"filter": "isValid(datum.low)"}],
        "mark": {**mark, "aria": False},
        "encoding": {"y": {**y, "field": "low"}, "y2": {"field": "high"}},
    }
    line = {"mark": {"type": "line", "strokeWidth": 2, "aria": False}, "encoding": {"y": y}}
    points = {
        "mark": {"type": "point", "filled": True, "size": 46, "opacity": 1},
        "encoding": {"y": y, "description": {"field": "said"}},
    }
    return svg({"data": {"values": data}, "encoding": shared, "layer": [spread, line, points]})


def steps(values: Mapping[str, Sequence[Sequence[float]]]) -> str:
    """A metric of training by optimizer step, a line for each run, with a gap between iterations.

    Args:
        values: Run -> points ``[iteration, step over all iterations, value]``.
    """
    data = [
        {"run": n, "iteration": i, "x": x, "y": y}
        for n, points in enumerate(values.values())
        for i, x, y in points
    ]
    first: dict[float, float] = {}
    for point in data:
        first[point["iteration"]] = min(point["x"], first.get(point["iteration"], point["x"]))
    begins = sorted(first.values())
    axis = {"tickCount": 6, "format": "d", "tickMinStep": 1}
    encoding = {
        "x": {"field": "x", "type": "quantitative", "title": None, "scale": {"zero": False, "nice": False},
              "axis": axis},
        "y": {"field": "y", "type": "quantitative", "title": None, "scale": {"zero": False},
              "axis": {"tickCount": 5, "format": "~g"}},
    }  # fmt: skip
    line = {
        "mark": {"type": "line", "strokeWidth": 1.5, "aria": False, "point": len(data) < 2 * len(values)},
        "encoding": {
            **encoding,
            "color": _color("run", list(range(len(values))), SERIES),
            "detail": {"field": "iteration"},
        },
    }
    bounds = {
        "data": {"values": [{"x": x} for x in begins[1:]]},
        "mark": {"type": "rule", "strokeDash": [3, 3], "color": LINES, "aria": False},
        "encoding": {"x": {"field": "x", "type": "quantitative"}},
    }
    return svg({"data": {"values": data}, "layer": [bounds, line] if len(begins) > 1 else [line]})


def distribution(found: Row) -> str:
    """Histograms of an entry of `itercli.web.flow.distributions`, up to five iterations of it."""
    edges, series = found["edges"], _some(found["iterations"], len(SHADES))
    names = [iteration(s["iteration"]) for s in series]
    data = [
        {"name": name, "low": edges[n], "high": edges[n + 1], "share": share}
        for name, s in zip(names, series, strict=True)
        for n, share in enumerate(s["share"])
    ]
    # A step needs its end: the last bin's height again, at its right edge.
    data += [{**d, "low": d["high"]} for d in data if d["high"] == edges[-1]]
    colors = [*SHADES[:1], *SHADES[1 - len(series) :]] if len(series) > 1 else SHADES[3:]
    encoding = {
        "x": {"field": "low", "type": "quantitative", "title": None, "scale": {"nice": False, "zero": False},
              "axis": {"tickCount": 6}},
        "y": {"field": "share", "type": "quantitative", "title": None, "stack": None,
              "axis": {"format": "%", "tickCount": 4}},
        "color": {**_color("name", names, colors), "legend": _legend(3)},
    }  # fmt: skip
    mark = {"interpolate": "step-after", "aria": False}
    layer: list[Spec] = [{"mark": {"type": "line", "strokeWidth": 1.8, **mark}}]
    if len(series) <= 2:
        layer.insert(0, {"mark": {"type": "area", "opacity": 0.15, **mark}})
    return svg({"data": {"values": data}, "encoding": encoding, "layer": layer})


def stacked(rows: Sequence[Row], field: str, unit: str) -> str:
    """Costs by iteration, a colour for each kind of stage, the rarest together.

    Args:
        rows: Entries of `itercli.web.flow.costs`.
        field: What is added up; rows without it are left out.
        unit: What a number of it is called.
    """
    sums: dict[str, float] = {}
    for row in rows:
        sums[row["uses"]] = sums.get(row["uses"], 0) + (row[field] or 0)
    names = sorted((n for n, total in sums.items() if total), key=lambda n: -sums[n])
    kept = names if len(names) <= len(SERIES) else [*names[: len(SERIES) - 1], "other"]
    cells: dict[tuple[int, str], float] = {}
    for row in rows:
        if row[field]:
            place = (row["iteration"], row["uses"] if row["uses"] in kept else "other")
            cells[place] = cells.get(place, 0) + row[field]
    data = [
        {"x": i, "name": name, "y": y, "order": kept.index(name),
         "said": f"{iteration(i)}, {name}: {y:,.0f} {unit}"}
        for (i, name), y in cells.items()
    ]  # fmt: skip
    shown = sorted({i for i, _ in cells})
    axis = {"labelExpr": "datum.value == 0 ? 'start' : datum.label", "labelOverlap": True, "labelAngle": 0}
    encoding = {
        "x": {"field": "x", "type": "ordinal", "title": None, "sort": shown, "axis": axis},
        "y": {"field": "y", "type": "quantitative", "title": None, "axis": {"tickCount": 4, "format": "~s"}},
        "color": {**_color("name", kept, SERIES), "legend": _legend(2)},
        "order": {"field": "order"},
        "description": {"field": "said"},
    }
    mark = {"type": "bar", "cornerRadius": 1, "width": {"band": 0.7}}
    height = HEIGHT + 18 * (len(kept) // 2)
    return svg({"data": {"values": data}, "mark": mark, "encoding": encoding}, height)


def svg(spec: Spec, height: int = HEIGHT) -> str:
    """Draw a Vega-Lite specification that says neither size nor style.

    Raises:
        IterError: vl-convert is not installed.
    """
    whole = {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "width": WIDTH,
        "height": height,
        "autosize": {"type": "fit", "contains": "padding"},
        "background": None,
        "padding": 3,
        "config": CONFIG,
        **spec,
    }
    return _drawn(json.dumps(whole))


@lru_cache(maxsize=1024)  # a page that is made again has few new charts
def _drawn(spec: str) -> str:
    return svg_maker()(spec)


def svg_maker() -> Callable[[str], str]:
    """What makes SVG of a specification.

    Raises:
        IterError: vl-convert is not installed.
    """
    try:
        import vl_convert
    except ImportError as error:
        raise IterError(MISSING) from error
    make: Callable[[str], str] = vl_convert.vegalite_to_svg
    return make


def iteration(number_: Any) -> str:
    """``start`` or ``iteration 3``."""
    return "start" if int(number_) == 0 else f"iteration {int(number_)}"


CONFIG: Spec = {
    "view": {"stroke": None},
    "axis": {
        "gridColor": LINES, "domain": False, "tickColor": LINES, "labelFontSize": 11, "labelPadding": 5,
        "tickSize": 4, "labelLimit": 120,
    },
    "axisX": {"grid": False},
    "legend": {"labelFontSize": 11, "symbolSize": 60, "labelLimit": 130, "symbolStrokeWidth": 2},
}  # fmt: skip


def _point(value: Any) -> Row:
    if isinstance(value, dict):
        return {"y": value.get("value"), "low": value.get("low"), "high": value.get("high")}
    return {"y": value, "low": None, "high": None}


def _said(value: Any) -> str:
    if not isinstance(value, dict) or value.get("low") is None or value.get("value") is None:
        return number(value.get("value") if isinstance(value, dict) else value)
    prompts = f", {value['prompts']} prompts" if value.get("prompts") else ""
    clusters = f" in {value['clusters']} clusters" if value.get("clusters") else ""
    return f"{number(value['value'])} ({interval(value)}{prompts}{clusters})"


def _iterations(data: Sequence[Row]) -> Spec:
    found = sorted({d["x"] for d in data})
    axis = {
        "values": _some(found, 9),
        "labelExpr": "datum.value == 0 ? 'start' : datum.label",
        "format": "d",
        "labelOverlap": True,
    }
    scale = {"nice": False, "zero": False, "padding": 14}
    return {"field": "x", "type": "quantitative", "title": None, "axis": axis, "scale": scale}


def _color(field: str, domain: Sequence[Any], colors: Sequence[str]) -> Spec:
    colors = [colors[n % len(colors)] for n in range(len(domain))]
    scale = {"domain": list(domain), "range": colors}
    return {"field": field, "type": "nominal", "scale": scale, "legend": None}


def _legend(columns: int) -> Spec:
    return {"title": None, "orient": "bottom", "columns": columns, "symbolType": "square"}


def _some(items: Sequence[Any], most: int) -> list[Any]:
    """The first, the last, and some evenly between."""
    if len(items) <= most:
        return list(items)
    return [items[round(n * (len(items) - 1) / (most - 1))] for n in range(most)]
