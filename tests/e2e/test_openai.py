"""A model behind an OpenAI-compatible server, with the run cut off twice in the middle."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.conftest import Project
from tests.e2e.conftest import TINY, events, journals, trajectories, wait_until

pytestmark = pytest.mark.slow


class Server:
    """Answers every request with an empty module, slowly; counts requests by their seed."""

    def __init__(self) -> None:
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
                self.reply({"data": [{"id": "served"}]})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    outer.asked[body["seed"]] += 1
                    outer.now += 1
                    outer.most = max(outer.most, outer.now)
                time.sleep(0.3)
                with lock:
                    outer.now -= 1
                choice = {
                    "message": {"content": f"// {body['seed']}\nmodule top_module; endmodule"},
                    "finish_reason": "stop",
                }
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
