"""HTTP calls to an AgentGym server: what is tried again, and what a failure means.

Three things can be gone: a task (`EnvironmentFailed`), a live environment (`EnvironmentDied`: the
pool replays in another one), and the server (`ServerFailed`: the stage stops, since episodes of
score 0 would be wrong; what was journaled stays).
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import httpx

from itercli.engine.retry import pause, retry_after
from itercli.environments.agentgym_protocol import FORGOTTEN, error_in
from itercli.environments.base import EnvironmentDied, EnvironmentFailed
from itercli.errors import IterError

BUSY = (429, 503)  # the request was turned away, not begun
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
IDLE = 3.0  # seconds that an idle connection is kept: the servers cut theirs after 5
CLOSING = 5.0  # seconds to wait when nobody needs the answer


class ServerFailed(IterError):
    """No server of the wanted kind answers. Not a task's fault, so it stops the stage."""


class Client:
    """A server.

    Args:
        url: Its address, with the path if it has one.
        timeout: Seconds without an answer after which a call has failed.
        retries: Further tries of a call that was turned away or not sent.
        backoff: First pause in seconds, and the longest.

    Attributes:
        owners: Whose each handle is. Empties when the server turns out to have forgotten one: restarted, it
            gives the same numbers again, and an old handle may be another environment's.
    """

    def __init__(self, url: str, timeout: float, retries: int, backoff: tuple[float, float]) -> None:
        self.url, self._retries, self._backoff = url.rstrip("/"), retries, backoff
        self.owners: dict[int, object] = {}
        self._http = httpx.Client(
            base_url=f"{self.url}/",
            timeout=httpx.Timeout(timeout, connect=min(timeout, 10.0)),
            limits=httpx.Limits(keepalive_expiry=IDLE),
        )

    def post(self, path: str, body: dict[str, Any], *, again: bool = False) -> Any:
        """The reply to a POST; see `get`.

        Args:
            again: Doing it twice does no harm, so a call without an answer is tried again.
        """
        return self._ask(path, again, method="POST", json=body)

    def get(self, path: str, query: dict[str, Any]) -> Any:
        """The reply to a GET.

        Raises:
            EnvironmentFailed: The server refuses the call.
            EnvironmentDied: The server does not know the environment, or nobody knows what state it is in.
            ServerFailed: No answer, or one that no such server gives.
        """
        return self._ask(path, True, method="GET", params=query)

    def tell(self, path: str, body: dict[str, Any]) -> None:
        """A POST whose answer does not matter: tried once, and not waited for long."""
        with suppress(httpx.HTTPError):
            self._http.post(path, json=body, timeout=CLOSING)

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def _ask(self, path: str, again: bool, **request: Any) -> Any:
        problem, asked = "", None
        for attempt in range(self._retries + 1):
            if attempt:
                time.sleep(pause(attempt - 1, asked, *self._backoff))
                asked = None
            try:
                response = self._http.request(url=path, **request)
            except httpx.HTTPError as error:
                problem = f"{type(error).__name__}: {error}"
                if again or isinstance(error, NOT_SENT):
                    continue
                # The action may have been done or not.
                raise EnvironmentDied(f"{self.url}/{path} gave no answer ({problem})") from error
            if response.status_code not in BUSY:
                return self._reply(path, response)
            problem = f"HTTP {response.status_code}"
            asked = retry_after(response.headers.get("retry-after"))
        raise ServerFailed(
            f"{self.url}/{path}: no answer in {self._retries + 1} tries; last: {problem}. Start the AgentGym "
            "server or mend the environment's `url`, and run it again: what is done is kept"
        )

    def _reply(self, path: str, response: httpx.Response) -> Any:
        what = f"{self.url}/{path} answered HTTP {response.status_code}: {response.text[:300]}"
        if response.status_code >= 500:  # WebShop's way to say that it knows no such environment
            raise EnvironmentDied(what)
        if response.status_code == 422:
            raise EnvironmentFailed(what)
        try:
            reply = response.json() if response.is_success else None
        except ValueError:
            reply = None
        if reply is None:
            raise ServerFailed(f"{what}. No AgentGym server says that; check the environment's `url`")
        if (said := error_in(reply)) is not None:
            if FORGOTTEN.search(said):
                self.owners.clear()
                raise EnvironmentDied(f"{self.url}/{path}: {said}")
            raise EnvironmentFailed(f"{self.url}/{path}: {said}")
        return reply
