"""The pages of `iter ui` in a real browser while a run is going: they follow it, and the reader stays."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from itercli.engine.runs import Run
from itercli.web.gate import Key
from tests.conftest import Project, make_project
from tests.web.bench import HOSTILE, make_run

pytestmark = pytest.mark.slow
READER = """return {
    top: document.getElementById('samples').getBoundingClientRect().top,
    stage: document.getElementById('f-stage').value, iteration: document.getElementById('f-iteration').value,
    opened: document.querySelector('#list > details:nth-child(3)').open,
    recipe: document.querySelector('#config details').open,
    told: document.querySelector('#list > details:nth-child(3)').innerText,
    focus: document.activeElement.id,
}"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A folder with a run full of hostile texts."""
    made = make_project(tmp_path)
    make_run(tmp_path / "runs", HOSTILE, "hostile")
    return made


def until(js: Callable[..., Any], code: str, seconds: float = 60) -> Any:
    """Wait until JavaScript gives something that is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := js(code):
            return found
        time.sleep(0.1)
    raise AssertionError(f"not in {seconds} s: {code}\n" + str(js("return document.body.innerText"))[:1500])


def test_pages_follow_a_run(browser: Any, project: Project, serve: Any) -> None:
    js = browser.execute_script
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.get_log("performance")
    key = Key()
    address = str(serve(project.path / "runs", key).base_url)
    browser.get(f"{address}/?token={key.token}")
    browser.get_log("performance")
    browser.get(f"{address}/")
    js("document.querySelector('input[value=hostile]').checked = true")
    process: subprocess.Popen[str] = project.start(
        "run", "recipe=toy.yaml", "--name", "live", "iterations=3", "sampler.delay=0.1"
    )
    try:
        until(js, "return !!document.querySelector('input[value=live]')")
        assert js("return document.querySelector('input[value=hostile]').checked")
        js("document.querySelector('a[href=\"/run/live\"]').click()")
        until(js, "return document.getElementById('now')?.innerText.includes('running')")
        until(js, "return !!document.querySelector('#f-stage option[value=score]')")
        js(
            "for (const [id, value] of [['f-iteration', '1'], ['f-stage', 'score']]) {"
            " const f = document.getElementById(id); f.value = value; f.dispatchEvent(new Event('change')); }"
        )
        until(js, "return document.querySelectorAll('#list > details').length === 16")
        js(
            "document.querySelector('#list > details:nth-child(3)').open = true;"
            "document.querySelector('#config details').open = true;"
            "document.getElementById('samples').scrollIntoView({behavior: 'instant'});"
            "document.getElementById('f-text').focus({preventScroll: true}); window.same = true"
        )
        before = js(READER)
        assert (before["stage"], before["iteration"], before["opened"]) == ("score", "1", True)
        for text in (" of 3 iterations", "finished"):
            until(js, f"return /(?<!0){text}/.test(document.getElementById('top').innerText)")
            after = js(READER)
            assert abs(after.pop("top") - before["top"]) < 3, text
            assert after == {k: v for k, v in before.items() if k != "top"}, text
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()
    assert js("return window.same")  # it was never loaded again
    until(js, "return document.getElementById('now').hidden")
    assert "iteration 3" in js("return document.getElementById('overview').innerText")
    assert js("return document.querySelector('#f-iteration option[value=\"3\"]') !== null")
    assert js("return window.pwned") is None
    assert [e["message"] for e in browser.get_log("browser")] == []
    urls = {
        message["params"]["request"]["url"]
        for entry in browser.get_log("performance")
        if (message := json.loads(entry["message"])["message"])["method"] == "Network.requestWillBeSent"
    }
    assert {u for u in urls if not u.startswith((f"{address}/", "data:"))} == set()

    run = Run(project.path / "runs" / "live")
    run.path.rename(run.path.with_name("gone"))
    assert "There is no run 'live'" in until(js, "return document.getElementById('lost')?.textContent")
    run.path.with_name("gone").rename(run.path)
    until(js, "return !document.getElementById('lost')")


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone_does_not_scroll_sideways(browser: Any, project: Project, serve: Any, dark: bool) -> None:
    screen = {"width": 380, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    key = Key()
    address = str(serve(project.path / "runs", key).base_url)
    browser.get(f"{address}/?token={key.token}")
    browser.get_log("performance")
    for path in ("/", "/run/hostile", "/run/hostile/rows?node=iteration-01/score"):
        browser.get(address + path)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 380, path
        assert browser.execute_script("return window.pwned") is None
    browser.get(address)
    edge = "return document.querySelector('.runs td.head').getBoundingClientRect().right"
    assert browser.execute_script(edge) <= 380  # the headline is seen without scrolling the table
