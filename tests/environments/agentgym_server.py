"""A server that speaks AgentGym's three protocols over tiny games, with their traps and faults on demand.

- textcraft: task n asks for planks out of n + 1 logs.
- sciworld: "open door" gives 25 points, "focus on water" all, "focus on agent" -100.
- webshop: search, b01 (worth 1) or b02 (worth 0.5), buy now.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

# HTTP status, seconds to be late, or "drop": hang up after having done it.
Fault = int | float | str


class NotThere(Exception):
    """An environment or address that is not there."""


class TextCraft:
    """One live environment."""

    def __init__(self) -> None:
        self.needed, self.logs = 1, 0

    def reset(self, data_idx: int) -> Any:
        self.needed, self.logs = [1, 2, 3][data_idx], 0
        command = f"craft 4 planks using {self.needed} logs"
        text = f"Crafting commands:\n{command}\n\nGoal: craft planks."
        return {"observation": text, "done": False, "reward": 0}

    def step(self, action: str) -> Any:
        if action == "get 1 logs":
            self.logs += 1
            return {"observation": "Got 1 logs", "reward": 0, "done": False}
        if action.startswith("craft 4 planks") and self.logs >= self.needed:
            return {"observation": "Crafted 4 minecraft:planks", "reward": 1, "done": True}
        return {"observation": f"Could not execute {action}", "reward": 0, "done": False}


class SciWorld:
    """One live environment; the server counts 2-3, as today's do."""

    def __init__(self) -> None:
        self.points, self.done = 0, False

    def reset(self, data_idx: int) -> Any:
        self.points, self.done = 0, False
        name, number = ("boil", data_idx) if data_idx < 30 else ("power-component", data_idx - 1396)
        return {
            "task_name": name, "var_num": number, "task_description": f"Task {data_idx}: find water.",
            "observation": "A hallway.\nA door.", "reward": 0, "score": 0, "done": False,
        }  # fmt: skip

    def step(self, action: str) -> Any:
        if self.done:
            raise ValueError("The task with environment 0 has finished.")
        points = {"open door": 25, "focus on water": 100, "focus on agent": -100}.get(action, self.points)
        reward, self.points = points - self.points, points
        self.done = points in (100, -100)
        return {"observation": f"{action}.", "reward": reward, "score": points, "done": self.done}


class WebShop:
    """One live environment."""

    def __init__(self) -> None:
        self.page, self.session = "search", 0

    def reset(self, session_id: int) -> Any:
        self.page, self.session = "search", session_id
        return [f"WebShop [SEP] Instruction: [SEP] Find thing {session_id} [SEP] Search", None]

    @property
    def clickables(self) -> list[str]:
        if self.page == "search":
            return ["search"]
        return ["back to search", *(["b01", "b02"] if self.page == "results" else ["buy now"])]

    def step(self, action: str) -> Any:
        verb, _, word = action.rstrip("]").partition("[")
        reward = 0.0
        if verb == "search" and self.page == "search":
            self.page = "results"
        elif verb == "click" and word in self.clickables and word != "search":
            reward = {"b01": 1.0, "b02": 0.5}.get(self.page, 0.0) if word == "buy now" else 0.0
            self.page = {"back to search": "search", "buy now": "end"}.get(word, word)
        return {"state": f"at {self.page}", "reward": reward, "done": self.page == "end", "info": None}


GAMES = {"textcraft": TextCraft, "sciworld": SciWorld, "webshop": WebShop}


class Server:
    """Listens on loopback until `stop`.

    Attributes:
        fault: What goes wrong with a call, by its path and how many of its path were before.
        paths: Paths of all calls.
        live: The environments that it holds.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.handle = "env_idx" if kind == "webshop" else "id"
        self.live: dict[int, Any] = {}
        self.made = 0
        self.paths: list[str] = []
        self.counts: Counter[str] = Counter()
        self.fault: Callable[[str, int], Fault | None] = lambda path, before: None
        self.http = self._listen(0)
        self.port = self.http.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listen again on the same port, with no memory of what was before: numbers come again, too."""
        self.live.clear()
        self.made = 0
        self.http = self._listen(self.port)

    def stop(self) -> None:
        """Stop listening."""
        self.http.shutdown()
        self.http.server_close()

    def _listen(self, port: int) -> ThreadingHTTPServer:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: object) -> None: ...

            def do_GET(self) -> None:
                address = urlsplit(self.path)
                query = {name: int(value) for name, value in parse_qsl(address.query)}
                self.answer(address.path, lambda: outer.get(address.path, query))

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self.answer(self.path, lambda: outer.post(self.path, body))

            def answer(self, path: str, act: Callable[[], Any]) -> None:
                outer.paths.append(path)
                fault = outer.fault(path, outer.counts[path])
                outer.counts[path] += 1
                if isinstance(fault, int):
                    return self.reply(fault, "no")
                try:
                    said = act()
                except NotThere as error:
                    return self.reply(error.args[0], "Internal Server Error")
                except (ValueError, IndexError) as error:
                    said = {"error": str(error)}
                if fault == "drop":
                    return None
                if isinstance(fault, float):
                    time.sleep(fault)
                with suppress(ConnectionError):  # it did not wait
                    self.reply(200, said)
                return None

            def reply(self, status: int, said: Any) -> None:
                raw = json.dumps(said).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

        http = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        return http

    def post(self, path: str, body: dict[str, Any]) -> Any:
        if path == "/create":
            handle, self.made = self.made, self.made + 1
            self.live[handle] = GAMES[self.kind]()
            return handle if self.kind == "webshop" else {"id": handle}
        if path not in ("/reset", "/step", "/close")[: 2 if self.kind == "webshop" else 3]:
            raise NotThere(404)
        if self.handle not in body:
            raise NotThere(422)
        game = self._found(body.pop(self.handle))
        if path == "/reset":
            return game.reset(**body)
        if path == "/step":
            return game.step(**body)
        self.live = {handle: other for handle, other in self.live.items() if other is not game}
        return True

    def get(self, path: str, query: dict[str, int]) -> Any:
        if path != "/available_actions" or self.kind != "webshop":
            raise NotThere(404)
        game = self._found(query[self.handle])
        return {"has_search_bar": game.page == "search", "clickables": game.clickables}

    def _found(self, handle: int) -> Any:
        if handle in self.live:
            return self.live[handle]
        if self.kind == "webshop":
            raise NotThere(500)
        raise ValueError(f"The id {handle} is not valid.")
