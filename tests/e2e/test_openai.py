"""Models behind an OpenAI-compatible server, with the run cut off in the middle: a policy, a judge."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.conftest import Project
from tests.e2e.conftest import TINY, events, journals, the_run, trajectories, wait_until

pytestmark = pytest.mark.slow


class Server:
    """Answers every request, slowly; counts requests by their seed."""

    def __init__(self) -> None:
        self.answer: Callable[[dict], str] = lambda body: f"// {body['seed']}\nmodule top_module; endmodule"
        self.listed = "served"
        self.asked: Counter[int] = Counter()
        self.most = self.now = 0
        lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: object) -> None:
                pass

            def reply(self, body: dict) -> None:
                raw = json.dumps(body).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def do_GET(self) -> None:
                self.reply({"data": [{"id": outer.listed}]})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    outer.asked[body["seed"]] += 1
                    outer.now += 1
                    outer.most = max(outer.most, outer.now)
                time.sleep(0.3)
                with lock:
                    outer.now -= 1
                choice = {"message": {"content": outer.answer(body)}, "finish_reason": "stop"}
                usage = {"completion_tokens": 9}
                with suppress(BrokenPipeError, ConnectionResetError):  # the client was killed
                    self.reply({"choices": [choice], "usage": usage, "model": body["model"]})

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def server() -> Iterator[Server]:
    one = Server()
    yield one
    one.http.shutdown()
    one.http.server_close()


def test_no_request_is_repeated_for_a_journaled_row(empty: Project, server: Server) -> None:
    args = (
        "run",
        *TINY,
        "iterations=1",
        "sampler={name: openai, model: served, concurrency: 2}",
        f"sampler.base_url={server.url}",
        "data.eval.limit=12",
        # A server's weights stay as they are: only one evaluation is left of the loop.
        "before={}",
        *(f"loop.{stage}=null" for stage in ("sample", "score", "build", "train", "evaluate_unseen")),
    )
    known: Counter[int] = Counter()
    for signum, code in ((signal.SIGTERM, 143), (signal.SIGKILL, -9)):
        done = sum(server.asked.values())
        process = empty.start(*args)
        wait_until(lambda done=done: sum(server.asked.values()) >= done + 4, 60, "requests")
        os.killpg(process.pid, signum)
        process.communicate()
        assert process.returncode == code
        assert not [s for s in known if server.asked[s] != known[s]]
        (rows,) = journals(empty).values()
        known = Counter({r["seed"]: server.asked[r["seed"]] for r in rows})
        assert len(known) >= 2
    empty.iter(*args)
    assert not [s for s in known if server.asked[s] != known[s]]

    rows = trajectories(empty)["iteration-01/evaluate.sample"]
    assert len(rows) == 12
    assert [r["completion"].splitlines()[0] for r in rows] == [f"// {r['seed']}" for r in rows]
    assert set(server.asked) == {r["seed"] for r in rows}
    # At most what was in flight at the two cuts was asked for again.
    assert sum(server.asked.values()) <= 12 + 2 * server.most
    assert server.most <= 2 + 1
    assert [e["switch"] for e in events(empty, "policy_loaded")] == ["fixed model of the server"] * 3


def strict(body: dict) -> str:
    """A judge that prefers the texts of later policies; its first rating of a text is never readable."""
    assert body["model"] == "strict-1"
    asked = body["messages"][0]["content"]
    levels = [int(level) for level in re.findall(r"^\d+ at (\d)$", asked, re.MULTILINE)]
    wanted = body["response_format"]["json_schema"]["schema"]["properties"]
    if "better" in wanted:
        first, second = levels
        answer = {"better": "first" if first > second else "second" if first < second else "tie"}
    elif len(body["messages"]) == 1:
        return "Hard to say."
    else:
        answer = dict.fromkeys(wanted, 2 + levels[0])
    return f"```json\n{json.dumps(answer | {'analysis': 'As it is.'})}\n```"


def test_a_served_judge_rates_and_compares(project: Project, server: Server) -> None:
    server.answer = strict
    server.listed = "strict-1"
    judge = (
        f"role: judge, sampler: {{name: openai, base_url: '{server.url}', concurrency: 4}}, "
        "of: evaluate.sample, rubric: longbench_write"
    )
    args = (
        "run",
        "recipe=toy.yaml",
        "roles.judge={served: strict-1}",
        "before.start={uses: sample, role: policy, prompts: tasks, n: 2}",
        f"loop.judge={{uses: judge, {judge}}}",
        f"loop.pairs={{uses: judge_pairs, against: start, {judge}}}",
        "loop.quality={uses: measure, of: judge, metrics: [mean_score, clarity]}",
        "loop.wins={uses: measure, of: pairs, metrics: [mean_score]}",
    )
    process = project.start(*args)
    wait_until(lambda: sum(server.asked.values()) >= 14, 60, "requests")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    (journal,) = project.path.glob("runs/.store/scores/*/journal.jsonl")
    known = {json.loads(line)["seed"] for line in journal.read_bytes().split(b"\n")[:-1]}
    assert len(known) >= 6
    project.iter(*args)
    # 2 iterations of 16 texts: two tries each, and two orders of each pair.
    assert len(server.asked) == 2 * 16 * (2 + 2)
    assert {server.asked[seed] for seed in known} == {1}

    run = the_run(project)
    for iteration, level in (("iteration-01", 1), ("iteration-02", 2)):
        metrics = {s: run.entry(f"{iteration}/{s}").manifest["metrics"] for s in ("quality", "wins")}
        assert metrics["quality"]["clarity"]["value"] == 2 + level
        assert metrics["quality"]["mean_score"]["value"] == 25 * (1 + level)
        assert metrics["wins"]["mean_score"]["value"] == 1
        counts = run.entry(f"{iteration}/judge").manifest["counts"]
        assert (counts["rejected: not JSON"], counts["calls: rate"], counts["missing"]) == (16, 32, 0)
    shown = project.iter("show", run.name).stdout
    assert "served:strict-1 (served)" in shown
    assert "As it is." in project.iter("samples", run.name, "--stage", "judge").stdout
