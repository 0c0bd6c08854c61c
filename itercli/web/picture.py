"""The lineage of models and data as a picture: boxes, and lines between them."""

from __future__ import annotations

from typing import Any

from itercli.web.layered import layout

Row = dict[str, Any]
BOX, TALL, STEP = 172, 44, 84  # of a box; from one rank to the next
FITS = 24  # characters of a line in a box


def picture(run: Row) -> Row:
    """Boxes and lines for a run's page data.

    Returns:
        ``width``, ``height``; ``boxes``: ``[{x, y, kind, title, line, full}]`` with kind model,
        best, data or waiting; ``lines``: ``[{path, kind}]`` with kind weights or data.
    """
    rows = {s["node"]: s["rows"] for s in run["stages"]}
    best = {m["version"] for m in (run["best"] or {}).get("models", {}).values()}
    boxes: dict[str, Row] = {}
    kinds: dict[tuple[str, str], str] = {}
    for m in run["lineage"]:
        for drawn in m["drawn"]:
            boxes.setdefault(drawn["node"], _data(drawn["node"], rows.get(drawn["node"])))
            kinds |= {(_key(v), drawn["node"]): "data" for v in drawn["models"]}
        for example in m["examples"]:
            boxes.setdefault(example["node"], _data(example["node"], example["rows"]))
            kinds |= {
                (d["node"], example["node"]): "data" for d in m["drawn"] if d["node"] != example["node"]
            }
            kinds[example["node"], _key(m["version"])] = "data"
        if m["models"].get("start"):
            kinds[_key(m["models"]["start"]), _key(m["version"])] = "weights"
        # Models that every iteration uses were there at the best one, too.
        mark = m["version"] in best and str(m["made_by"]).startswith("iteration-")
        boxes[_key(m["version"])] = _model(m, mark)
    places, points = layout(dict.fromkeys(boxes, BOX), list(kinds))
    drawn_boxes = [
        {**box, "x": round(places[k][0] - BOX / 2, 1) + 2, "y": places[k][1] * STEP + 2}
        for k, box in boxes.items()
    ]
    lines = [{"path": _path(way), "kind": kinds[edge]} for edge, way in points.items()]
    ranks = max((rank for _, rank in places.values()), default=0)
    width = max((b["x"] + BOX for b in drawn_boxes), default=0) + 2
    return {"width": width, "height": ranks * STEP + TALL + 4, "boxes": drawn_boxes, "lines": lines,
            "box": BOX, "tall": TALL}  # fmt: skip


def _key(version: str) -> str:
    return f"model {version}"


def _model(m: Row, best: bool) -> Row:
    if m["made_by"] is None:
        line = "start model"
    elif m["kept"]:
        line = f"same as {m['kept']}"
    else:
        line = m["made_by"].partition("/")[2] if m["state"] == "done" else m["state"]
    kind = "waiting" if m["state"] != "done" else "best" if best else "model"
    return _box(kind, m["version"] + (" · best" if best else ""), line, m["path"] or m["version"])


def _data(node: str, rows: int | None) -> Row:
    line = "no rows yet" if rows is None else f"{rows:,} rows"
    folder, _, stage = node.partition("/")
    where = folder.replace("iteration-0", "").replace("iteration-", "")
    return _box("data", stage, f"{where}: {line}" if where == "before" else f"iter {where}: {line}", node)


def _box(kind: str, title: str, line: str, full: str) -> Row:
    return {"kind": kind, "title": _fit(title), "line": _fit(line), "full": full}


def _fit(text: str) -> str:
    return text if len(text) <= FITS else text[: FITS - 1] + "…"


def _path(way: list[tuple[float, int]]) -> str:
    """A line from the bottom of the first box, straight past the ranks between, to the top of the last."""
    x, rank = way[0]
    at = f"M{x + 2:.1f},{rank * STEP + TALL + 2}"
    for n, (to, r) in enumerate(way[1:], 1):
        top, last = r * STEP + 2, n == len(way) - 1
        middle = top - (STEP - TALL) / 2
        at += f"C{x + 2:.1f},{middle} {to + 2:.1f},{middle} {to + 2:.1f},{top}"
        if not last:
            at += f"V{top + TALL}"
        x = to
    return at
