"""Who may read the pages: the one who was told the token, as loopback is open to all users of a machine.

The token is in the printed address. Who comes with it gets a cookie and is sent on to the address
without it, so that it stays in no history, and what one copies from the address bar opens nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

PARAMETER = "token"
COOKIE = "iter-ui"


class Key:
    """The token of one start of the server, and links that work once."""

    def __init__(self) -> None:
        self.token = secrets.token_urlsafe(32)
        self._once: set[str] = set()

    def once(self) -> str:
        """A token that opens one time: a browser is given its address where all can see it."""
        token = secrets.token_urlsafe(32)
        self._once.add(token)
        return token

    def fits(self, given: str) -> bool:
        """Whether a token opens; compared in constant time."""
        if secrets.compare_digest(given.encode(), self.token.encode()):
            return True
        hit = next((t for t in self._once if secrets.compare_digest(given.encode(), t.encode())), None)
        self._once.discard(hit or "")
        return hit is not None


class Gate:
    """ASGI middleware: nothing passes without the cookie.

    Args:
        refuse: Makes the answer to those who come without.
        moved: Makes the answer that sends a request to another address.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        key: Key,
        refuse: Callable[[], Response],
        moved: Callable[[Request, str], Response],
    ) -> None:
        self.app, self.key, self.refuse, self.moved = app, key, refuse, moved

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass the request on."""
        from starlette.requests import Request

        if scope["type"] != "http":
            return
        request = Request(scope)
        # Cookies are shared between all ports of a host: the name keeps several servers apart.
        name = f"{COOKIE}-{scope['server'][1]}"
        given = request.query_params.get(PARAMETER)
        if given is not None and self.key.fits(given):
            answer = self.moved(request, str(request.url.remove_query_params(PARAMETER)))
            answer.set_cookie(name, self.key.token, path="/", httponly=True, samesite="strict")
            await answer(scope, receive, send)
        elif secrets.compare_digest(request.cookies.get(name, "").encode(), self.key.token.encode()):
            await self.app(scope, receive, send)
        else:
            await self.refuse()(scope, receive, send)
