"""The token of `iter ui`: nothing of any page without it, and what one comes in with."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from itercli.web.gate import Key
from tests.web.bench import make_run

PATHS = [
    "/",
    "/run/secret",
    "/run/secret/rows?node=iteration-01/score",
    "/now?run=secret",
    "/compare?run=secret",
    "/no",
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_run(tmp_path / "runs", "private words", "secret")
    return tmp_path / "runs"


@pytest.mark.parametrize("path", PATHS)
def test_without_the_token_nothing_is_shown(root: Path, serve: Any, path: str) -> None:
    key = Key()
    client = serve(root, key)
    port = client.base_url.port
    join = "&" if "?" in path else "?"
    for wrong in ("", "x", key.token[:-1], key.token + "x", key.token.upper(), "%00", "é"):
        for address in (path, f"{path}{join}token={wrong}"):
            for cookie in ("", f"iter-ui-{port}={wrong}", f"iter-ui-{port + 1}={key.token}"):
                headers = {"Cookie": cookie.encode()} if cookie else {}
                answer = client.get(address, headers=headers)
                assert answer.status_code == 403, (address, cookie)
                assert "secret" not in answer.text
                assert "Set-Cookie" not in answer.headers
                assert answer.headers["Content-Security-Policy"].startswith("default-src 'none';")
    assert client.post(path).status_code == 403


def test_the_token_is_exchanged_for_a_cookie(root: Path, serve: Any) -> None:
    key = Key()
    client = serve(root, key)
    came = client.get("/now", params={"token": key.token, "run": "secret"})
    assert came.status_code == 303
    assert came.headers["Location"] == f"{client.base_url}/now?run=secret".replace("//now", "/now")
    assert key.token not in came.text + came.headers["Location"]
    cookie = came.headers["Set-Cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert client.get("/now", params={"run": "secret"}).status_code == 200
    assert "secret" in client.get("/").text


def test_a_redirect_never_leads_away(root: Path, serve: Any) -> None:
    key = Key()
    client = serve(root, key)
    base = str(client.base_url).rstrip("/")
    for path in ("//evil.example/", "/\\evil.example", "/%2f%2fevil.example"):
        answer = client.get(httpx.URL(f"{base}{path}?token={key.token}"))
        assert answer.headers["Location"].startswith(f"{base}/"), path
    host = {"Host": "evil.example"}
    assert client.get("/", params={"token": key.token}, headers=host).status_code == 400


def test_a_link_on_another_site_works_all_the_same(root: Path, serve: Any) -> None:
    # A cookie of SameSite=Strict is not sent on by the redirect of such a link.
    key = Key()
    client = serve(root, key)
    came = client.get("/", params={"token": key.token}, headers={"Sec-Fetch-Site": "cross-site"})
    assert came.status_code == 200
    assert came.headers["Refresh"] == f"0; url={str(client.base_url).rstrip('/')}/"
    assert "Location" not in came.headers
    assert "secret" not in came.text


def test_the_link_for_the_browser_opens_once(root: Path, serve: Any) -> None:
    key = Key()
    once = key.once()
    client = serve(root, key)
    assert client.get("/", params={"token": once}).status_code == 303
    other = httpx.Client(base_url=client.base_url, trust_env=False)
    assert other.get("/", params={"token": once}).status_code == 403
    assert client.get("/").status_code == 200


def test_every_start_has_a_token_of_its_own() -> None:
    assert len({Key().token for _ in range(100)}) == 100
    assert len(Key().token) >= 40


def test_browsers_are_given_a_link_that_opens_once(tmp_path: Path) -> None:
    # What a browser is started with stands in the list of processes.
    code = """
        import sys, webbrowser
        from itercli.cli import ui
        from itercli.web import server
        webbrowser.open = lambda address: print("opened", address)
        server.serve = lambda app, sock: None
        from itercli.cli.main import main
        sys.exit(main(["ui", "--port", "0", "--open"]))
    """
    import textwrap

    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ,
    )
    printed, opened = done.stdout.splitlines()
    token = printed.partition("?token=")[2].split()[0]
    assert opened.startswith(f"opened {printed.partition('?')[0]}?token=")
    assert token not in opened


@pytest.mark.slow
def test_a_browser_comes_in_from_a_file_and_by_address(
    root: Path, serve: Any, browser: Any, tmp_path: Path
) -> None:
    key = Key()
    address = str(serve(root, key).base_url)
    browser.get(f"{address}/")
    assert "secret" not in browser.page_source
    link = tmp_path / "link.html"
    link.write_text(f'<a id="a" href="{address}/?token={key.token}">runs</a>')
    browser.get(link.as_uri())
    browser.find_element("id", "a").click()
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 10).until(lambda b: "secret" in b.page_source)
    assert browser.current_url == f"{address}/"
