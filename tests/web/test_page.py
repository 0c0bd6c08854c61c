"""The page of `iter report`: complete for every kind of rows, and nothing in it comes alive."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import html5lib
import pytest

from itercli.engine.runs import Run
from itercli.engine.store import ROWS
from itercli.report.text import clean
from itercli.web.data import page_data
from itercli.web.page import digest, embed, render
from tests.web.bench import ATTACK, HOSTILE, LINE, make_run

KINDS = {"prompts", "trajectories", "scores", "examples", "pairs", "dialogues", "episodes", "trees"}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a run full of hostile texts, with lines of a megabyte."""
    return render(page_data([make_run(tmp_path_factory.mktemp("hostile"), HOSTILE, long=LINE)]))


@pytest.fixture(scope="module")
def harmless(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of the same run with plain words."""
    return render(page_data([make_run(tmp_path_factory.mktemp("harmless"), "plain words")]))


@cache
def parsed(page: str) -> Any:
    return html5lib.parse(page, namespaceHTMLElements=False)


def elements(page: str) -> Iterator[Any]:
    return parsed(page).iter()


def shapes(page: str) -> set[tuple[str, frozenset[str]]]:
    """Kinds of elements with the names of their attributes."""
    return {(str(e.tag), frozenset(map(str, e.attrib))) for e in elements(page)}


def script(page: str, kind: str | None) -> str:
    """Text of the script element of a type."""
    (found,) = (e for e in elements(page) if e.tag == "script" and e.get("type") == kind)
    return str(found.text)


def test_no_element_or_attribute_comes_from_a_text(hostile: str, harmless: str) -> None:
    assert shapes(hostile) == shapes(harmless)
    for tag in ("script", "style", "img", "iframe", "title", "form", "input", "a"):
        assert sum(e.tag == tag for e in elements(hostile)) == sum(e.tag == tag for e in elements(harmless))
    for e in elements(hostile):
        assert not [name for name in e.attrib if str(name).startswith("on")]
        assert str(e.get("href", "#")).startswith("#")
        assert "src" not in e.attrib
        assert "style" not in e.attrib


def test_texts_are_shown_without_control_characters(hostile: str) -> None:
    visible = "".join(t for e in elements(hostile) if e.tag != "script" for t in (e.text, e.tail) if t)
    assert visible.count("MARK<script>window.pwned=1</script>") > 10
    samples = script(hostile, "application/json")
    for text in (visible, samples, hostile):
        assert not re.search(
            "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200b\ufeff\ud800-\udfff]", text
        )
    assert "{{ 7*7 }}{% endraw %}${7*7}" in visible


def test_every_kind_of_rows_is_in_the_samples(hostile: str) -> None:
    samples = json.loads(script(hostile, "application/json"))
    assert {s["kind"] for s in samples["stages"]} == KINDS
    shown = {
        s["kind"]
        for s in samples["stages"]
        for row in samples["rows"]
        if samples["stages"][row["stage"]] == s
    }
    assert shown == KINDS
    texts = [text for text, _ in samples["texts"]]
    assert clean(HOSTILE) in texts
    assert "<script>" not in hostile.split('id="samples-data">')[1].split("</script>")[0]


def test_a_long_line_is_cut_and_the_page_stays_small(hostile: str) -> None:
    samples = json.loads(script(hostile, "application/json"))
    left = [left for _, left in samples["texts"] if left]
    assert left
    assert min(left) > 2**20 - 13_000
    assert len(hostile) < 2_000_000


def test_the_policy_allows_only_the_page_itself(hostile: str) -> None:
    (policy,) = (e.get("content") for e in elements(hostile) if e.get("http-equiv"))
    style = next(e.text for e in elements(hostile) if e.tag == "style")
    assert policy.startswith("default-src 'none';")
    assert f"script-src '{digest(script(hostile, None))}'" in policy
    assert f"style-src '{digest(style)}'" in policy
    assert not re.search(r"""(href|src)=["']?(https?:)?//""", hostile)


@pytest.mark.parametrize("text", [ATTACK, "</script>", "<!--", "\u2028", "&", "]]>"])
def test_embedded_json_reads_back(text: str) -> None:
    made = embed({"a": [text]})
    assert not set("<>&\u2028\u2029") & set(made)
    assert json.loads(made) == {"a": [text]}


def test_a_page_holds_what_the_run_was(harmless: str) -> None:
    text = "".join(parsed(harmless).itertext())
    words = " ".join(text.split())
    assert "evaluate.pass@1, iteration 1 0.200 (.10-.30)" in words
    assert "evaluate.pass@1, iteration 2 · best 0.400 (.20-.60)" in words
    assert "score 6 3 passed" in words
    assert "pairs 6 5 kept" in words
    assert "train 11 trained on" in words
    assert "tokens of a completion" in words
    assert "policy@2 · best" in words
    assert "error: plain words" in words
    assert "cpu plain words; cores 2; memory 16.0 GiB" in words
    assert "seed: 3" in words


def test_several_runs_stand_side_by_side(tmp_path: Path) -> None:
    runs = [make_run(tmp_path, "one", "first"), make_run(tmp_path, "two", "second")]
    data = page_data(runs, count=2)
    assert [d["key"] for d in data["config"]] == ["note"]
    assert data["config"][0]["values"] == {"first": "one", "second": "two"}
    assert {s["run"] for s in data["samples"]["stages"]} == {0, 1}
    assert max(s["shown"] for s in data["samples"]["stages"]) == 2
    page = render(data)
    labels = {str(e.get("aria-label")) for e in elements(page)}
    assert {
        "first, iteration 2: 0.400 (.20-.60, 6 prompts)",
        "second, iteration 2: 0.400 (.20-.60, 6 prompts)",
    } <= labels


def test_a_damaged_stage_does_not_hide_the_rest(tmp_path: Path) -> None:
    run = make_run(tmp_path, "words")
    entry = run.entry("iteration-01/score")
    assert entry
    (entry.path / ROWS).write_bytes(b"PAR1 no more")
    data = page_data([run])
    (problem,) = (s for s in data["samples"]["stages"] if s["problem"])
    assert (problem["node"], problem["shown"]) == ("iteration-01/score", 0)
    page = render(data)
    assert "iteration-01/score is damaged" in page
    assert "running the recipe again mends it" in page


def test_a_run_that_has_only_begun(tmp_path: Path) -> None:
    run = Run(tmp_path / "new")
    run.path.mkdir()
    run.save({"recipe": "toy", "state": "new", "nodes": {}})
    page = render(page_data([run]))
    assert "No model is trained in this run" in page
    assert json.loads(script(page, "application/json"))["rows"] == []
