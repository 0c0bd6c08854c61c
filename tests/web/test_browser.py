"""The page of `iter report` in a real browser: filters work, nothing hostile runs, no request goes out."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from itercli.web.data import page_data
from itercli.web.page import render
from tests.web.bench import HOSTILE, LINE, make_run

pytestmark = pytest.mark.slow
DESK, PHONE = (1280, 900), (380, 800)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs full of hostile texts."""
    root = tmp_path_factory.mktemp("page")
    runs = [make_run(root, HOSTILE, "first", long=LINE), make_run(root, HOSTILE, "second")]
    path = root / "report.html"
    path.write_bytes(render(page_data(runs)).encode())
    return path


@pytest.fixture
def look(browser: Any, page: Path) -> Callable[..., Any]:
    """Opens the page in a window of a size; then runs JavaScript in it."""

    def opened(size: tuple[int, int], dark: bool = False) -> Callable[..., Any]:
        screen = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size[0] < 500}
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        browser.get(page.as_uri())
        return lambda code, *args: browser.execute_script(code, *args)

    return opened


def choose(js: Callable[..., Any], name: str, value: str) -> str:
    """Set a filter as a reader does; gives what is said of the samples that fit."""
    js(
        "const f = document.getElementById('f-' + arguments[0]); f.value = arguments[1];"
        "f.dispatchEvent(new Event('input')); f.dispatchEvent(new Event('change'))",
        name,
        value,
    )
    time.sleep(0.3)  # typing is waited for
    return str(js("return document.getElementById('f-count').textContent"))


def everything(js: Callable[..., Any]) -> None:
    """Show all samples with all their parts."""
    js("document.querySelector('#filters [type=reset]').click()")
    time.sleep(0.3)
    js(
        "const more = document.getElementById('f-more'); while (!more.hidden) more.click();"
        "for (let n = 0; n < 4; n++) document.querySelectorAll('details').forEach((d) => { d.open = true; })"
    )
    time.sleep(1.0)  # folds are filled when they open


def test_nothing_hostile_runs_and_nothing_is_fetched(browser: Any, page: Path, look: Any) -> None:
    js = look(DESK)
    everything(js)
    assert js("return window.pwned") is None
    shown = js("return document.getElementById('list').innerText")
    assert shown.count("<script>window.pwned=1</script>") > 100
    for kind in (
        "search tree",
        "stage A",
        "chosen",
        "extracted answer",
        "tool message",
        "observation",
        "response 1",
    ):
        assert kind in shown, kind
    # Only elements of the page itself: none was made from a text.
    tags = set(js("return [...document.querySelectorAll('#list *')].map((e) => e.localName)"))
    assert tags <= {"details", "summary", "span", "div", "p", "pre", "ul", "li"}
    urls = [
        message["params"]["request"]["url"]
        for entry in browser.get_log("performance")
        if (message := json.loads(entry["message"])["message"])["method"] == "Network.requestWillBeSent"
    ]
    assert {u for u in urls if not u.startswith("data:")} <= {page.as_uri()}
    assert browser.get_log("browser") == []


def test_filters(look: Any) -> None:
    js = look(DESK)
    js("document.querySelector('#filters [type=reset]').click()")
    time.sleep(0.3)
    total = int(choose(js, "text", "").split()[2])
    assert choose(js, "stage", "score").startswith("24 of")
    assert choose(js, "iteration", "2").startswith("12 of")
    assert choose(js, "run", "1").startswith("6 of")
    assert choose(js, "outcome", "failed").startswith("3 of")
    tags = js("return [...document.querySelectorAll('#list summary > .tag.bad')].map((e) => e.textContent)")
    assert tags == ["failed"] * 3
    assert choose(js, "prompt", "P1 ").startswith("1 of")
    assert choose(js, "text", "no such text").startswith("0 of")
    assert choose(js, "text", "MARK<SCRIPT>").startswith("1 of")
    js("document.querySelector('#filters [type=reset]').click()")
    time.sleep(0.3)
    assert choose(js, "text", "").startswith(f"{total} of {total}")


def test_keyboard_reaches_every_control(look: Any) -> None:
    js = look(DESK)
    unnamed = js(
        "return [...document.querySelectorAll('select, input, button')]"
        ".filter((e) => !(e.labels && e.labels.length) && !e.textContent.trim()).length"
    )
    assert unnamed == 0
    assert js("return document.querySelectorAll('[tabindex]:not([tabindex=\"0\"])').length") == 0


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone_does_not_scroll_sideways(look: Any, dark: bool) -> None:
    js = look(PHONE, dark)
    everything(js)
    assert js("return document.documentElement.scrollWidth") <= PHONE[0]
    light = js("return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]")
    assert (light < 100) == dark
    # Charts follow the colour scheme, since the style sheet knows every colour that they use.
    names = {f"#{n:06x}" for n in (*range(1, 9), *range(0x11, 0x16), 0x20)}
    used = js(
        "return [...document.querySelectorAll('.chart svg [stroke], .chart svg [fill]')].flatMap((e) =>"
        "[[e.getAttribute('stroke'), getComputedStyle(e).stroke], [e.getAttribute('fill'),"
        "getComputedStyle(e).fill]]).filter((pair) => (pair[0] || '').startsWith('#0000'))"
    )
    assert names >= {name for name, _ in used}
    assert not [drawn for _, drawn in used if drawn.startswith("rgb(0, 0, ")]
    ink = js("return getComputedStyle(document.querySelector('.quiet')).color")
    text = "[...document.querySelectorAll('.chart text')].map((e) => getComputedStyle(e).fill)"
    assert js(f"return [...new Set({text})]") == [ink]


def test_it_prints(browser: Any, look: Any) -> None:
    look(DESK)
    pdf = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {})["data"])
    assert pdf.startswith(b"%PDF")
    assert pdf.count(b"/Type /Page\n") > 3
