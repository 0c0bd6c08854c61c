"""A headless browser and a server of pages."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from itercli.web.gate import PARAMETER, Key
from itercli.web.server import application, listen


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium that logs its console and every request."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("needs chromium and chromedriver: apt install chromium chromium-driver")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    made = webdriver.Chrome(options=options, service=Service(driver))
    yield made
    made.quit()


@pytest.fixture
def serve() -> Iterator[Callable[[Path], httpx.Client]]:
    """Serves a folder on a free port; gives a client of it that was let in, or with `key` an outsider."""
    servers: list[tuple[uvicorn.Server, threading.Thread]] = []

    def started(root: Path, key: Key | None = None) -> httpx.Client:
        sock = listen(0)
        own = Key()
        server = uvicorn.Server(
            uvicorn.Config(application(root, key or own), log_level="error", lifespan="off", ws="none")
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
        thread.start()
        servers.append((server, thread))
        client = httpx.Client(
            base_url=f"http://127.0.0.1:{sock.getsockname()[1]}", timeout=60, trust_env=False
        )
        if key is None:
            assert client.get("/", params={PARAMETER: own.token}).status_code == 303
        return client

    yield started
    for server, thread in servers:
        server.should_exit = True
        thread.join(10)
