"""`iter ui`'s server: what it shows, what it refuses, and what it costs when nothing changes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import httpx
import pytest

from itercli.engine.runs import Run
from itercli.engine.store import JOURNAL, META, ROWS
from itercli.sweep.record import Sweep, SweepPoint
from itercli.web import pages
from tests.report.finished import finished
from tests.web.bench import HOSTILE, make_run
from tests.web.test_page import parsed, script, shapes

VERDICTS = {0: {"p0": [True], "p1": [False]}, 1: {"p0": [True], "p1": [True]}}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with two finished runs."""
    for name in ("first", "second"):
        finished(tmp_path / "runs", name, VERDICTS)
    return tmp_path / "runs"


def words(page: str) -> str:
    return " ".join(" ".join(parsed(page).itertext()).split())


def test_runs_are_listed_and_each_has_its_page(root: Path, serve: Any) -> None:
    client = serve(root)
    listed = client.get("/")
    assert "2 runs" in words(listed.text)
    assert "first finished 1/1 pass@1 0.500 → 1.000 hand" in words(listed.text)
    for name in ("first", "second"):
        assert f'href="/run/{name}"' in listed.text
        page = client.get(f"/run/{name}")
        assert page.status_code == 200
        assert "evaluate.pass@1, iteration 1 · best 1.000" in words(page.text)
        assert json.loads(script_of(page.text))["rows"]
    both = client.get("/compare", params=[("run", "first"), ("run", "second")])
    assert "first, second" in words(both.text)
    assert client.get("/compare").status_code == 404


def script_of(page: str) -> str:
    return script(page, "application/json")


def test_points_of_a_sweep_stand_together(root: Path, serve: Any) -> None:
    points = [SweepPoint(run, {"seed": str(n)}, []) for n, run in enumerate(("second", "later"))]
    Sweep(root / ".sweeps" / "toy-sweep-1", "toy", ["seed=0,1"], points).save()
    said = words(serve(root).get("/").text)
    assert "toy-sweep-1 Sweep of toy: 1 finished, 1 waiting" in said
    assert said.index("first finished") < said.index("toy-sweep-1") < said.index("second finished")
    assert "pass@1 0.500 → 1.000 seed=0" in said
    assert "later waiting seed=1" in said


def test_only_names_of_loopback_are_answered(root: Path, serve: Any) -> None:
    client = serve(root)
    port = client.base_url.port
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", "192.168.0.1", ""):
        answer = client.get("/", headers={"Host": host})
        assert answer.status_code == 400, host
        assert "first" not in answer.text
    for host in ("localhost", f"localhost:{port}", "127.0.0.1:1"):
        assert client.get("/", headers={"Host": host}).status_code == 200, host


def test_no_address_leads_out_of_the_folder(root: Path, serve: Any) -> None:
    make_run(root.parent / "elsewhere", "secret words", "other")
    (root / "link").symlink_to(root.parent / "elsewhere")
    client = serve(root)
    for name in (
        "..", ".", "%2e%2e", "..%2felsewhere%2fother", "../elsewhere/other", "link%2fother", "firs",
        "first%00", "first%2f..%2ffirst", "*", ".store", f"{root.parent}/elsewhere/other".replace("/", "%2f"),
    ):  # fmt: skip
        for path in (f"/run/{name}", f"/now?run={name}", f"/run/{name}/rows?node=iteration-01/score"):
            answer = client.get(httpx.URL(str(client.base_url) + path))
            assert answer.status_code == 404 or path == "/run/..", path
            assert "secret" not in answer.text
    for node in ("../../elsewhere/other", "/etc/passwd", "iteration-01/train", ""):
        assert client.get("/run/first/rows", params={"node": node}).status_code == 404


def test_nothing_can_be_changed_and_nothing_is_left_to_guess(root: Path, serve: Any) -> None:
    client = serve(root)
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        for path in ("/", "/run/first", "/now?run=first"):
            assert client.request(method, path).status_code == 405
    for path in ("/", "/run/first", "/run/none", "/none", "/now?run=first"):
        headers = client.get(path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Content-Security-Policy"].startswith("default-src 'none';")
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["Content-Type"] == "text/html; charset=utf-8"
        assert "Access-Control-Allow-Origin" not in headers


def test_what_has_not_changed_is_not_made_again(
    root: Path, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    monkeypatch.setattr(pages, "page_data", lambda runs, *args: made.append(runs) or real(runs, *args))
    client = serve(root)
    for path in ("/", "/run/first", "/now?run=first"):
        first = client.get(path)
        again = client.get(path, headers={"If-None-Match": first.headers["ETag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert client.get(path).content == first.content
    assert len(made) == 1
    run = Run(root / "first")
    run.save(run.info | {"state": "failed", "error": "no more"})
    changed = client.get("/run/first")
    assert "error: no more" in words(changed.text)
    assert "no more" in client.get("/").text
    assert len(made) == 2


real = pages.page_data


def test_a_run_under_way(root: Path, serve: Any) -> None:
    run = make_run(root, "words", "live")
    nodes = run.info["nodes"]
    run.save(run.info | {"state": "running"})
    key = nodes["iteration-02/under_way"]["key"]
    entry = run.store.entry("trees", key)
    (entry.path / META).write_text('{"total": 40}')
    client = serve(root)
    assert "hidden" in client.get("/now?run=live").text
    with run.lock():
        run.event("stage_started", node="iteration-02/under_way", key=key)
        begun = client.get("/now?run=live")
        assert "Running now iteration-02/under_way running 2 of 40 rows" in words(begun.text)
        page = client.get("/run/live").headers["ETag"].strip('"')
        assert f'data-page="{page}"' in begun.text
        with open(entry.path / JOURNAL, "ab") as handle:
            handle.write(b' line"}\n{"prompt_id": "q", "index": 2, "completion": "c"}\n')
        assert " 4 of 40 rows" in words(client.get("/now?run=live").text)
        assert client.get("/run/live").headers["ETag"].strip('"') == page  # it has not doubled yet
        with open(entry.path / JOURNAL, "ab") as handle:
            handle.write(b'{"prompt_id": "q", "index": 3, "completion": "c"}\n' * 200)
        assert client.get("/run/live").headers["ETag"].strip('"') != page
        assert "live running" in words(client.get("/").text)
        run.event("stage_failed", node="iteration-02/under_way", type="E", error="e", traceback="")
        assert "between two stages" in words(client.get("/now?run=live").text)
    assert "live died" in words(client.get("/").text)
    assert "hidden" in client.get("/now?run=live").text


def test_hostile_names_and_texts_are_shown_as_text(tmp_path: Path, serve: Any) -> None:
    plain, hostile = tmp_path / "plain", tmp_path / "hostile"
    name = "<img src=x onerror=pwned=1>\"'&?#%2e {{7*7}} ü"
    make_run(plain, "words", "name")
    make_run(hostile, HOSTILE, name)
    a, b = serve(plain), serve(hostile)
    assert shapes(a.get("/").text) == shapes(b.get("/").text)
    (link,) = (
        e.get("href") for e in parsed(b.get("/").text).iter() if str(e.get("href")).startswith("/run/")
    )
    page = b.get(httpx.URL(str(b.base_url) + link))
    assert page.status_code == 200
    assert shapes(page.text) == shapes(a.get("/run/name").text)
    assert name in words(page.text)
    now = next(e.get("data-poll") for e in parsed(page.text).iter() if e.get("data-poll"))
    assert b.get(httpx.URL(str(b.base_url) + now)).status_code == 200
    rows = [
        e.get("href") for e in parsed(page.text).iter() if str(e.get("href")).endswith("iteration-01%2Fscore")
    ]
    shown = b.get(httpx.URL(str(b.base_url) + rows[0]))
    assert shapes(shown.text) == shapes(a.get("/run/name/rows?node=iteration-01/score").text)
    assert b.get("/run/<script>alert(1)</script>").text.count("<script") == 0


def test_all_rows_of_a_stage_page_by_page(tmp_path: Path, serve: Any) -> None:
    verdicts = {f"p{n:02d}": [n % 3 == 0] for n in range(50)}
    finished(tmp_path, "many", {0: verdicts, 1: verdicts})
    client = serve(tmp_path)

    def rows(**asked: Any) -> tuple[list[str], str]:
        page = client.get("/run/many/rows", params={"node": "iteration-01/evaluate.score", **asked}).text
        return [row["prompt"] for row in json.loads(script_of(page))["rows"]], words(page)

    first, said = rows()
    assert first == [f"p{n:02d}" for n in range(20)]
    assert "1 to 20 of 50 that fit Next" in said
    last, said = rows(start=40)
    assert last == [f"p{n:02d}" for n in range(40, 50)]
    assert "41 to 50 of 50 that fit Previous" in said
    assert rows(prompt="p1")[0] == [f"p{n}" for n in range(10, 20)]
    assert rows(prompt="none")[1].count("No row fits.") == 1
    assert rows(start="-1")[0] == first


def test_a_damaged_run_says_so_and_the_others_stay(root: Path, serve: Any) -> None:
    client = serve(root)
    entry = Run(root / "second").entry("iteration-01/evaluate.score")
    assert entry
    assert "is damaged" not in client.get("/run/second").text
    (entry.path / ROWS).write_bytes(b"PAR1 no more")
    assert "iteration-01/evaluate.score is damaged" in client.get("/run/second").text
    answer = client.get("/run/second/rows?node=iteration-01/evaluate.score")
    assert answer.status_code == 404
    assert "running the recipe again makes it again" in words(answer.text)
    (root / "second" / "run.json").write_text("[1, 2]")
    assert "run.json is damaged" in words(client.get("/run/second").text)
    assert client.get("/now?run=second").status_code == 404
    (root / "second" / "run.json").write_text('{"nodes": {"a": 1}}')
    assert "run.json is damaged" in words(client.get("/run/second").text)
    listed = client.get("/")
    assert "second damaged" in words(listed.text)
    assert "first finished" in words(listed.text)


def test_a_run_that_was_removed_says_so(root: Path, serve: Any) -> None:
    client = serve(root)
    assert client.get("/run/first").status_code == 200
    os.rename(root / "first", root.parent / "away")
    answer = client.get("/run/first")
    assert answer.status_code == 404
    assert "There is no run 'first'" in words(answer.text)
    assert client.get("/now?run=first").status_code == 404
    assert "Did you mean second?" in words(client.get("/run/secnd").text)
    assert "1 run" in words(client.get("/").text)


def test_a_folder_without_runs(tmp_path: Path, serve: Any) -> None:
    client = serve(tmp_path / "none")
    assert "There are no runs here yet" in words(client.get("/").text)
