"""Any server with the OpenAI API as a sampler.

Seeds are passed on; whether they are honoured, and whether texts depend on the batch, is the
server's affair. Finished rows are journaled by the stage, so a restart asks only for the rest.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx

from itercli.engine.retry import pause, retry_after
from itercli.models.template_date import asks_for_date, date_string
from itercli.records import ModelRef
from itercli.sampling.base import Request, Sampled, SamplerError
from itercli.sampling.openai_tokens import asks, gives_ids, tokens_of
from itercli.sampling.policies import by_version, distinct, policy_of
from itercli.sampling.specs import OpenAISpec

log = logging.getLogger(__name__)

# Answers that another try can mend; other 4xx say that the request itself is wrong.
_RETRY = frozenset({408, 409, 425, 429})


# How servers word it (OpenAI, vLLM, SGLang, llama.cpp) when prompt and budget exceed the context.
_CONTEXT = re.compile(
    r"context.?(length|window|size)|exceeds?.{0,60}context|longer than the model", re.I | re.S
)


# Options that are always sent, by what switches them off: a server would fill in what the folder of its
# model says (vLLM: generation_config.json). Servers of closed models refuse those that they don't know.
NEUTRAL: dict[str, float] = {
    "top_p": 1.0,
    "top_k": -1,  # vLLM, SGLang and llama.cpp agree on it; 0 is an error for SGLang
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}


class _Refused(SamplerError):
    """The server says that a request is wrong.

    Args:
        answer: What it said.
    """

    def __init__(self, message: str, answer: str) -> None:
        super().__init__(message)
        self.answer = answer


class _ContextExceeded(_Refused):
    """The server refuses a request because it does not fit into the model's context."""


class _Cancelled(Exception):
    """The stage stopped while a request waited for its next try."""


class OpenAISampler:
    """See `itercli.sampling.base.Sampler`.

    Args:
        spec: Options from the recipe.
    """

    def __init__(self, spec: OpenAISpec) -> None:
        self.spec = spec
        key = os.environ.get(spec.api_key_env, "")
        limits = httpx.Limits(max_connections=spec.concurrency, max_keepalive_connections=spec.concurrency)
        self._client = httpx.Client(
            base_url=spec.base_url.rstrip("/") + "/",
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(spec.timeout_s, connect=min(30.0, spec.timeout_s)),
            limits=limits,
        )
        self._stop = threading.Event()
        self._served: dict[str | None, str] = {}
        # Options that this server doesn't know; they are off, and no longer sent.
        self._unsent: set[str] = set()
        self._adapters: dict[str, str] = {}
        # Whether the server gives token ids, and what has been said of what it does not give.
        self._ids = False
        self._told: set[str] = set()
        # Dates for the templates of models that ask for one, by the server's name of the model.
        self._dates: dict[str, str] = {}

    def load(self, model: ModelRef, *others: ModelRef) -> dict[str, Any]:
        self._served = {}
        self._stop = threading.Event()
        refs = distinct(model, *others)
        listed = self._models()
        served: dict[str, str] = {}
        reports = []
        for digest, ref in refs.items():
            started = time.perf_counter()
            name, how = self._name_for(ref, listed)
            if how != "adapter loaded" and listed and name not in listed:
                raise SamplerError(
                    f"{ref.version}: the server at {self.spec.base_url} does not serve {name!r}; "
                    f"it serves {', '.join(listed)}"
                )
            served[digest] = name
            if ref.base and asks_for_date(Path(ref.base)):
                self._dates[name] = date_string(ref.template_date)
            seconds = round(time.perf_counter() - started, 3)
            # The server's weights can't be read: only its list of names is checked.
            probe = {"listed": name in listed}
            reports.append(
                {"switch": how, "served": name, "seconds": seconds, "probe": probe, "token_ids": self._ids}
            )
        for digest in self._adapters.keys() - refs.keys():
            old = self._adapters.pop(digest)
            self._send("POST", "unload_lora_adapter", {"lora_name": old}, f"unloading {old}")
        self._served = by_version(served, model, *others)
        rest = [
            {"version": ref.version, **report}
            for ref, report in zip(list(refs.values())[1:], reports[1:], strict=True)
        ]
        return reports[0] | ({"others": rest} if rest else {})

    def _name_for(self, model: ModelRef, listed: list[str]) -> tuple[str, str]:
        """The server's name for a version, and how it came there.

        Raises:
            SamplerError: The version is trained, and nothing says how the server got it.
        """
        spec = self.spec
        if model.version in spec.model_for_version:
            return spec.model_for_version[model.version], "named by model_for_version"
        if model.adapter is not None and spec.lora_endpoint:
            return self._load_adapter(model), "adapter loaded"
        if model.version.endswith("@0") and model.adapter is None:
            name = model.served or spec.model
            if name is None:
                raise SamplerError(f"{model.version}: set sampler.model, its name on {spec.base_url}")
            return name, "fixed model of the server"
        raise SamplerError(
            f"{model.version} is a trained policy, but the server at {spec.base_url} serves the fixed model "
            f"{spec.model!r}: name its model in sampler.model_for_version, set sampler.lora_endpoint=true "
            "for a server that loads adapters, or sample with sampler=vllm or transformers"
        )

    def _models(self) -> list[str]:
        answer = self._send("GET", "models", None, "the list of models")
        self._ids = gives_ids(answer)
        return [str(entry.get("id")) for entry in answer.get("data", []) if isinstance(entry, dict)]

    def _load_adapter(self, model: ModelRef) -> str:
        """Load an adapter under a name used for no other weights (prefix caches go by name)."""
        known = self._adapters.get(model.digest)
        if known is not None:
            return known
        name = f"{model.version}-{model.digest[:12]}-{os.getpid()}".replace("/", "-")
        body = {"lora_name": name, "lora_path": model.adapter}
        self._send("POST", "load_lora_adapter", body, f"the adapter of {model.version}")
        self._adapters[model.digest] = name
        return name

    def generate(self, requests: Iterable[Request | None], stopping: Callable[[], bool]) -> Iterator[Sampled]:
        if not self._served:
            raise SamplerError("no policy is loaded; call load() first")
        # One event per call: threads of a call that was given up must not wake up in the next.
        stop = self._stop = threading.Event()
        waiting = iter(requests)
        answers: queue.SimpleQueue[Sampled | BaseException] = queue.SimpleQueue()
        running, asking = 0, True

        def work(request: Request) -> None:
            try:
                answers.put(self._complete(request, stop))
            except BaseException as error:
                answers.put(error)

        try:
            while not stopping():
                while asking and running < self.spec.concurrency:
                    request = next(waiting, None)
                    if request is None:  # no more, or nothing just now: asked again after a completion
                        asking = False
                    else:
                        # Daemons: a request that hangs for minutes must not hold up the process's exit.
                        threading.Thread(target=work, args=(request,), daemon=True).start()
                        running += 1
                if not running:
                    return
                try:
                    # The timeout lets `stopping` be seen while all requests are slow.
                    answer = answers.get(timeout=0.5)
                except queue.Empty:
                    continue
                running -= 1
                if isinstance(answer, BaseException):
                    raise answer
                asking = True
                yield answer
        finally:
            stop.set()

    def _complete(self, request: Request, stop: threading.Event) -> Sampled:
        chat = self.spec.endpoint == "chat"
        path = "chat/completions" if chat else "completions"
        body, what = self._body(request), f"request {request.key}"
        try:
            answer = self._ask(path, body, what, stop)
        except _ContextExceeded as error:
            if not request.fit:
                raise
            refused = Sampled(request.key, "", "error", 0, {"error": str(error)})
            if not chat:
                return refused
            # Without a budget a chat gets what the context leaves.
            del body["max_tokens"]
            try:
                answer = self._ask(path, body, what, stop)
            except _ContextExceeded:
                return refused
        try:
            choice = answer["choices"][0]
            text = (choice["message"]["content"] if chat else choice["text"]) or ""
        except (KeyError, IndexError, TypeError) as error:
            raise SamplerError(f"request {request.key}: the answer holds no completion: {answer}") from error
        reason = choice.get("finish_reason")
        usage = answer.get("usage") or {}
        wanted = request.params.logprobs
        generated = tokens_of(choice, text, logprobs=wanted)
        if generated is None:
            self._tell("token ids: training encodes its texts anew")
        if wanted and (generated is None or generated.logprobs is None):
            self._tell("log-probabilities with their token ids, so none are kept")
        return Sampled(
            key=request.key,
            text=text,
            finish=reason if reason in ("stop", "length") else "error",
            tokens=int(usage.get("completion_tokens") or 0),
            meta={
                "prompt_tokens": usage.get("prompt_tokens"),
                "served": answer.get("model"),
                **({"unsent": sorted(self._unsent)} if self._unsent else {}),
            },
            generated=generated,
        )

    def _tell(self, what: str) -> None:
        """Log once what the server does not give."""
        if what not in self._told:
            self._told.add(what)
            log.warning("%s gives no %s", self.spec.base_url, what)

    def _ask(self, path: str, body: dict[str, Any], what: str, stop: threading.Event) -> dict[str, Any]:
        """Send a request; again without an option that the server refuses, if it is off.

        Raises:
            SamplerError: It refuses an option that is on, or the request for another reason.
        """
        while True:
            try:
                return self._send("POST", path, body, what, stop)
            except _ContextExceeded:
                raise
            except _Refused as error:
                name = _refused_option(error.answer, body)
                if name is None or name in self.spec.extra:
                    raise
                if body[name] != NEUTRAL[name]:
                    raise SamplerError(
                        f"{what}: {self.spec.base_url} does not know {name}, which is {body[name]} here; "
                        f"switch it off in the stage, or sample from a server that knows it ({error})"
                    ) from error
                del body[name]
                if name not in self._unsent:
                    self._unsent.add(name)
                    log.warning(
                        "%s does not know %s, which is off here: no longer sent. If it applies a default of "
                        "its own, completions are not as the recipe says (rows name it in meta.unsent)",
                        self.spec.base_url,
                        name,
                    )

    def _body(self, request: Request) -> dict[str, Any]:
        params, spec = request.params, self.spec
        body: dict[str, Any] = {
            "model": policy_of(self._served, request),
            "temperature": params.temperature,
            "max_tokens": params.max_new_tokens,
            "seed": request.seed,
        }
        options = NEUTRAL | {
            "top_p": params.top_p,
            "top_k": params.top_k or NEUTRAL["top_k"],
            "repetition_penalty": params.repetition_penalty,
        }
        body |= {
            name: value
            for name, value in options.items()
            if not (name in self._unsent and value == NEUTRAL[name])
        }
        chat = spec.endpoint == "chat"
        body |= asks(ids=self._ids, logprobs=params.logprobs, chat=chat)
        if params.stop:
            body["stop"] = list(params.stop)
        if params.json_schema is not None:
            schema = {"name": _schema_name(params.json_schema), "schema": params.json_schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        if chat:
            if body["model"] in self._dates:  # the server renders the template, and has a clock
                body["chat_template_kwargs"] = {"date_string": self._dates[body["model"]]}
            body["messages"] = [{"role": m.role, "content": m.content} for m in request.messages]
            if request.continue_final:
                body.update(add_generation_prompt=False, continue_final_message=True)
        else:
            closed = request.messages[:-1] if request.continue_final else request.messages
            opened = request.messages[-1].content if request.continue_final else ""
            body["prompt"] = "\n".join(m.content for m in closed) + opened
        # Null in `extra` means: not to be sent.
        return {name: value for name, value in (body | spec.extra).items() if value is not None}

    def _send(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None,
        what: str,
        stop: threading.Event | None = None,
    ) -> dict[str, Any]:
        """One call with retries.

        Raises:
            SamplerError: The server refuses the call, or no try succeeded.
        """
        problem = ""
        stop = stop or self._stop
        for attempt in range(self.spec.retries + 1):
            if stop.is_set():
                raise _Cancelled
            asked: float | None = None
            try:
                response = self._client.request(method, path, json=body)
            except httpx.HTTPError as error:
                problem = f"{type(error).__name__}: {error}"
            else:
                if response.is_success:
                    return _json(response, what)
                problem = f"HTTP {response.status_code}: {response.text[:500]}"
                if response.status_code < 500 and response.status_code not in _RETRY:
                    exceeded = response.status_code in (400, 413, 422) and _CONTEXT.search(response.text)
                    raise (_ContextExceeded if exceeded else _Refused)(
                        f"{what}: {self.spec.base_url} refused it with {problem}{_hint(response)}",
                        response.text if response.status_code in (400, 422) else "",
                    )
                asked = retry_after(response.headers.get("retry-after"))
            wait = pause(attempt, asked, self.spec.backoff_s, self.spec.backoff_max_s)
            if attempt < self.spec.retries and stop.wait(wait):
                raise _Cancelled
        raise SamplerError(
            f"{what}: no answer from {self.spec.base_url} in {self.spec.retries + 1} tries; last: {problem}"
        )

    def close(self) -> None:
        self._stop.set()
        self._client.close()
        self._served = {}


def _json(response: httpx.Response, what: str) -> dict[str, Any]:
    # vLLM answers some calls (adapter loading) with plain text.
    if "json" not in response.headers.get("content-type", "json"):
        return {}
    try:
        answer = response.json()
    except ValueError as error:
        raise SamplerError(f"{what}: the answer is not JSON: {response.text[:200]}") from error
    return answer if isinstance(answer, dict) else {}


def _refused_option(answer: str, body: dict[str, Any]) -> str | None:
    """The option in `body` that a server's refusal names, if it is one of those that are always sent.

    OpenAI names it as `param`; others only in their text ("property 'top_k' is unsupported", or the
    place where extra inputs are not permitted).
    """
    try:
        param = json.loads(answer)["error"]["param"]
    except (ValueError, KeyError, TypeError):
        param = None
    if param in NEUTRAL and param in body:
        return str(param)
    return next((name for name in NEUTRAL if name in body and re.search(rf"\b{name}\b", answer)), None)


def _schema_name(schema: dict[str, Any]) -> str:
    """A name as the API wants it; the model may get to see it."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", str(schema.get("title") or "answer"))[:64]


def _hint(response: httpx.Response) -> str:
    if response.status_code in (401, 403):
        return "; set the variable named in sampler.api_key_env"
    if response.status_code == 404:
        return "; check sampler.base_url (with /v1) and sampler.model"
    return ""
