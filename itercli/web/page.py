"""Page data as one HTML file that needs no network.

Everything is escaped: Jinja2 escapes what a template prints, the samples are embedded as JSON
and become text nodes (`samples.js`), and a Content-Security-Policy allows the page's own
script and style by their hashes, no request and no inline handler.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from itercli import __version__
from itercli.errors import IterError
from itercli.report.numbers import interval, missing, number
from itercli.report.text import spent
from itercli.web.charts import curve, distribution, iteration, stacked, steps
from itercli.web.metrics import OPEN, group_tables, headline, metric_groups
from itercli.web.picture import picture
from itercli.web.training import training_groups

if TYPE_CHECKING:
    from jinja2 import Environment

MISSING = "pages need Jinja2: pip install 'itercli[report]'"
Row = dict[str, Any]


@dataclass(frozen=True)
class Live:
    """What makes a page follow its runs, see `live.js`.

    Attributes:
        poll: Address that answers what is new.
        version: Of the page's content.
    """

    poll: str
    version: str


def render(data: Row, live: Live | None = None) -> str:
    """The page of `itercli.web.data.page_data`, a file of its own unless it is `live`.

    Raises:
        IterError: A package of the extra `report` is not installed.
    """
    return document(
        "page.html",
        live,
        scripts=("samples.js",),
        data=data,
        title=", ".join(run["run"]["name"] for run in data["runs"]),
        metrics=metric_groups(data),
        training=training_groups(data),
        samples=embed(data["samples"]),
    )


def document(
    template: str,
    live: Live | None = None,
    *,
    scripts: Sequence[str] = (),
    served: bool = False,
    **content: Any,
) -> str:
    """A whole page: a template with its style, its scripts and what it may load.

    Args:
        scripts: Names of scripts that it needs, whether live or not.
        served: It has a server, as every live page has.
        content: What the template shows.
    """
    served = served or live is not None
    used = [*scripts, *(["live.js"] if live else [])]
    return (
        environment()
        .get_template(template)
        .render(
            **content,
            live=live,
            served=served,
            version=__version__,
            style=asset("style.css"),
            scripts=[asset(name) for name in used],
            policy=policy(*used, served=served),
        )
    )


def policy(*scripts: str, served: bool = False) -> str:
    """The Content-Security-Policy of a page with these scripts.

    Args:
        served: It may ask its own server, and send forms there.
    """
    own = "'self'" if served else "'none'"
    allowed = " ".join(f"'{digest(asset(name))}'" for name in scripts) or "'none'"
    return (
        f"default-src 'none'; style-src '{digest(asset('style.css'))}'; script-src {allowed}; "
        + ("connect-src 'self'; img-src data:; " if served else "")
        + f"base-uri 'none'; form-action {own}"
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
        "plain": number,
    }
    made.globals |= {
        "curve": _markup(curve), "distribution": _markup(distribution), "stacked": _markup(stacked),
        "steps": _markup(steps),
        "picture": picture, "iteration": iteration, "headline": headline, "OPEN": OPEN,
        "group_tables": group_tables,
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


def _markup(draw: Any) -> Any:
    """A function of a template whose result is SVG already."""

    def drawn(*args: Any) -> Any:
        from markupsafe import Markup

        return Markup(draw(*args))

    return drawn
