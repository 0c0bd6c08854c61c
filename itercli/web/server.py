"""The server of `iter ui`: pages of the runs below a folder, for this machine alone.

It answers those who know its token (`itercli.web.gate`), only GET, and under the names of loopback
alone: a page of another site that points its own name at this machine gets nothing. An address
leads to a run only by its whole name.
"""

from __future__ import annotations

import socket
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from itercli.errors import IterError
from itercli.report.text import clean
from itercli.web.gate import Gate, Key
from itercli.web.page import document, policy
from itercli.web.pages import Gone, Pages

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

MISSING = "pages need a server: pip install 'itercli[ui]'"
HOST = "127.0.0.1"
NAMES = ["127.0.0.1", "localhost"]
TRIES = 50  # ports after the wished one
HTML = "text/html; charset=utf-8"


def application(root: Path, key: Key) -> Starlette:
    """The pages of a folder of runs as an ASGI application.

    Args:
        key: What opens them.

    Raises:
        IterError: A package of the extra `ui` is not installed.
    """
    try:
        import uvicorn  # noqa: F401 - `serve` needs it; what is missing is said before anything is printed
        from starlette.applications import Starlette
        from starlette.exceptions import HTTPException
        from starlette.middleware import Middleware
        from starlette.middleware.trustedhost import TrustedHostMiddleware
        from starlette.responses import Response
        from starlette.routing import Route
    except ImportError as error:
        raise IterError(MISSING) from error
    pages = Pages(root)
    headers = {
        "Content-Security-Policy": policy("samples.js", "live.js", served=True) + "; frame-ancestors 'none'",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cache-Control": "no-cache",
    }

    def told(status: int, title: str, message: str) -> Response:
        page = document("message.html", served=True, title=title, message=clean(message))
        return Response(page, status, headers, HTML)

    def refuse() -> Response:
        return told(403, "This needs its token", "Open the address that `iter ui` has printed.")

    def moved(request: Request, address: str) -> Response:
        page = told(303, "Moved", f"The pages are at {address}")
        page.headers["Location"] = address
        if request.headers.get("sec-fetch-site") == "cross-site":
            # A redirect of another site's link would go without the new cookie.
            page.status_code = 200
            page.headers["Refresh"] = f"0; url={address}"
            del page.headers["Location"]
        return page

    def answer(make: Callable[[Request], tuple[str, bytes]]) -> Callable[[Request], Response]:
        def answered(request: Request) -> Response:
            try:
                version, page = make(request)
            except Gone as error:
                return told(404, "No such run", str(error))
            except LookupError as error:
                return told(404, "Nothing to show", str(error))
            except Exception as error:  # a run that was damaged on purpose, or changes just now
                traceback.print_exc()
                return told(500, "This can't be shown", f"{type(error).__name__}: {error}")
            tag = {"ETag": f'"{version}"'}
            if request.headers.get("if-none-match") == tag["ETag"]:
                return Response(status_code=304, headers=headers | tag)
            return Response(page, headers=headers | tag, media_type=HTML)

        return answered

    def rows(request: Request) -> tuple[str, bytes]:
        asked = request.query_params
        start = asked.get("start", "0")
        return pages.rows(
            request.path_params["name"],
            {
                "node": asked.get("node", ""),
                "start": int(start) if start.isascii() and start.isdigit() else 0,
                "outcome": asked.get("outcome", ""),
                "prompt": asked.get("prompt", ""),
            },
        )

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return told(error.status_code, "Nothing to show", f"There is no page {request.url.path}")

    handlers: dict[int, Callable[[Request, Exception], Awaitable[Response]]] = {404: refused, 405: refused}
    return Starlette(
        routes=[
            Route("/", answer(lambda r: pages.index())),
            Route("/run/{name}", answer(lambda r: pages.report([r.path_params["name"]]))),
            Route("/run/{name}/rows", answer(rows)),
            Route("/compare", answer(lambda r: pages.report(_several(r)))),
            Route("/now", answer(lambda r: pages.now(_several(r)))),
        ],
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=NAMES, www_redirect=False),
            Middleware(Gate, key=key, refuse=refuse, moved=moved),
        ],
        exception_handlers=handlers,
    )


def listen(port: int) -> socket.socket:
    """A socket on the wished port of loopback, or the next one that is free; 0 is any.

    Raises:
        IterError: None of them is free.
    """
    for wished in range(port, min(port + TRIES, 65536)) if port else [0]:
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind((HOST, wished))
            made.listen()
            return made
        except OSError:
            made.close()
    raise IterError(f"no port from {port} to {port + TRIES - 1} is free; --port 0 takes any")


def serve(app: Starlette, sock: socket.socket) -> None:
    """Serve until the process is interrupted.

    The server has a thread of its own that ends with the process, so that Ctrl-C does not wait
    for a page in the making.
    """
    import uvicorn

    config = uvicorn.Config(
        app, log_level="warning", access_log=False, lifespan="off", ws="none", server_header=False
    )
    server = uvicorn.Server(config)
    thread = Thread(target=server.run, kwargs={"sockets": [sock]}, name="server", daemon=True)
    thread.start()
    thread.join()


def _several(request: Request) -> list[str]:
    names = request.query_params.getlist("run")
    if not names:
        raise Gone("No run is named: tick some in the list of all runs.")
    return names
