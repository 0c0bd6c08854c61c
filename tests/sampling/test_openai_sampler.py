"""The OpenAI sampler against a server of our own on loopback, with faults injected."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from itercli.engine.retry import retry_after
from itercli.records import Message, ModelRef
from itercli.sampling.base import Request, SamplerError, SamplingParams
from itercli.sampling.openai_sampler import OpenAISampler, _Cancelled
from itercli.sampling.specs import OpenAISpec
from tests.sampling.conftest import Chains, ask, never

# A fault is (status, headers), a number of seconds to sleep, or "drop".
Fault = tuple[int, dict[str, str]] | float | str


class Server:
    """Answers with the request's seed; `faults` gives what to do instead, by message and try."""

    def __init__(self) -> None:
        self.bodies: list[dict] = []
        self.headers: list[dict] = []
        self.paths: list[str] = []
        self.times: list[float] = []
        self.tries: Counter[str] = Counter()
        self.fault: Callable[[str, int], Fault | None] = lambda text, attempt: None
        self.most = self.now = 0
        # Answers as vLLM's server does, with these fields.
        self.ids = False
        self.tokens: Callable[[dict], dict] = lambda body: {"token_ids": [5, 6, 2]}
        self.lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: object) -> None:
                pass

            def reply(self, status: int, body: dict, headers: dict[str, str] | None = None) -> None:
                raw = json.dumps(body).encode()
                self.send_response(status)
                for name, value in ({"Content-Type": "application/json"} | (headers or {})).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def do_GET(self) -> None:
                kind = {"owned_by": "vllm"} if outer.ids else {}
                self.reply(200, {"data": [{"id": "tiny"} | kind, {"id": "tiny-it1"}]})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer.lock:
                    outer.bodies.append(body)
                    outer.headers.append(dict(self.headers))
                    outer.paths.append(self.path)
                    outer.times.append(time.monotonic())
                    outer.now += 1
                    outer.most = max(outer.most, outer.now)
                try:
                    self.answer(body)
                except (BrokenPipeError, ConnectionResetError):
                    pass
                finally:
                    with outer.lock:
                        outer.now -= 1

            def answer(self, body: dict) -> None:
                if "lora" in self.path:
                    self.reply(200, {})
                    return
                text = body["messages"][-1]["content"] if "messages" in body else body["prompt"]
                with outer.lock:
                    outer.tries[text] += 1
                    attempt = outer.tries[text]
                fault = outer.fault(text, attempt)
                if isinstance(fault, tuple):
                    message = fault[1].get("X-Message", "injected")
                    self.reply(fault[0], {"error": {"message": message}}, fault[1])
                    return
                if fault == "drop":
                    self.close_connection = True
                    self.connection.close()
                    return
                if isinstance(fault, float):
                    time.sleep(fault)
                said = f"{text}:{body['seed']}"
                choice = {"message": {"content": said}} if "messages" in body else {"text": said}
                usage = {"completion_tokens": 3, "prompt_tokens": 5}
                if outer.ids:
                    choice |= outer.tokens(body)
                choices = [{"finish_reason": "stop"} | choice]
                self.reply(200, {"choices": choices, "usage": usage, "model": body["model"]})

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    one = Server()
    yield one
    one.close()


@pytest.fixture
def sampler(server):
    made = []

    def make(load: bool = True, **options):
        values = {"model": "tiny", "base_url": server.url, "backoff_s": 0.01, "concurrency": 4} | options
        made.append(OpenAISpec(**values).build())
        if load:
            made[-1].load(START)
        return made[-1]

    yield make
    for one in made:
        one.close()


START = ModelRef(base="/m", version="policy@0", digest="0")
TRAINED = ModelRef(base="/m", adapter="/a", version="policy@1", digest="1")


def test_answers_seeds_and_concurrency(server, sampler):
    server.fault = lambda text, attempt: 0.02
    ours = sampler()
    requests = [ask(f"p{i}", i, 10**18 + i) for i in range(20)]
    rows = {s.key: s for s in ours.generate(requests, never)}
    assert {k: s.text for k, s in rows.items()} == {(f"p{i}", i): f"p{i}:{10**18 + i}" for i in range(20)}
    assert rows["p3", 3].tokens == 3
    assert rows["p3", 3].finish == "stop"
    assert 2 <= server.most <= 4


OFF = {
    "top_p": 1.0,
    "top_k": -1,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}


def test_every_option_is_sent_so_that_no_default_of_the_server_acts(server, sampler, monkeypatch):
    monkeypatch.setenv("MY_KEY", "s3cret")
    monkeypatch.setenv("ITER_RECIPE_ENV", "MY_KEY")
    ours = sampler(api_key_env="MY_KEY", extra={"min_p": 0.1, "presence_penalty": None})
    list(ours.generate([ask("a", top_k=5, stop=("\n",)), ask("b", top_p=0.9)], never))
    by_text = {b["messages"][0]["content"]: b for b in server.bodies}
    expected = OFF | {
        "min_p": 0.1,
        "top_k": 5,
        "stop": ["\n"],
        "temperature": 1.0,
        "max_tokens": 24,
        "seed": 0,
    }
    del expected["presence_penalty"]
    assert by_text["a"] == expected | {"model": "tiny", "messages": by_text["a"]["messages"]}
    assert by_text["b"]["top_p"] == 0.9
    assert by_text["b"]["top_k"] == -1, "off, for vLLM, SGLang and llama.cpp"
    assert server.headers[0]["Authorization"] == "Bearer s3cret"


def test_continue_final_and_completions(server, sampler):
    messages = (Message(role="user", content="u"), Message(role="assistant", content="a"))
    request = Request(("k", 0), messages, 1, SamplingParams(), continue_final=True)
    list(sampler().generate([request], never))
    assert server.bodies[-1]["continue_final_message"] is True
    assert server.bodies[-1]["add_generation_prompt"] is False
    row = next(iter(sampler(endpoint="completions").generate([request], never)))
    assert server.bodies[-1]["prompt"] == "ua", "the open turn as it stands"
    assert row.text == "ua:1"


def test_penalty_and_schema_are_sent(server, sampler):
    schema = {"title": "Six scores", "type": "object", "properties": {"a": {"type": "integer"}}}
    list(sampler().generate([ask("a", repetition_penalty=1.1, json_schema=schema)], never))
    assert server.bodies[-1]["repetition_penalty"] == 1.1
    assert server.bodies[-1]["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "Six_scores", "schema": schema, "strict": True},
    }


def test_a_server_is_told_the_date_of_a_template_that_asks_for_one(server, sampler, tmp_path):
    ours = sampler(load=False)
    for template, sent in (("{{ messages }}", None), ("{{ strftime_now('%d') }}", "31 Jan 2025")):
        (tmp_path / "chat_template.jinja").write_text(template)
        ref = ModelRef(base=str(tmp_path), version="policy@0", digest=template, template_date="2025-01-31")
        ours.load(ref)
        list(ours.generate([ask("a")], never))
        assert server.bodies[-1].get("chat_template_kwargs") == (sent and {"date_string": sent})


# As OpenAI, Groq and servers built on pydantic word it; {} is the field.
UNKNOWN = [
    (400, "Unrecognized request argument supplied: {}"),
    (400, "property '{}' is unsupported"),
    (
        422,
        '{{"detail":[{{"loc":["body","{}"],"msg":"Extra inputs are not permitted"}}]}}',
    ),
]


@pytest.mark.parametrize(("status", "message"), UNKNOWN)
def test_an_option_that_the_server_does_not_know_is_left_out_where_it_is_off(
    status, message, server, sampler, caplog
):
    refused = ("top_k", "repetition_penalty", "min_p")

    def fault(text, attempt):
        named = next((name for name in refused if name in server.bodies[-1]), None)
        return None if named is None else (status, {"X-Message": message.format(named)})

    server.fault = fault
    ours = sampler(concurrency=1)
    rows = list(ours.generate([ask("a"), ask("b", 1)], never))
    assert [row.meta["unsent"] for row in rows] == [sorted(refused)] * 2
    assert set(OFF) & set(server.bodies[-1]) == set(OFF) - set(refused)
    assert len(server.bodies) == 5, "each refusal costs one request, once"
    for name in refused:
        assert sum(f"does not know {name}" in record.message for record in caplog.records) == 1
    with pytest.raises(SamplerError, match=r"'c', 0.*does not know top_k, which is 7 here"):
        list(ours.generate([ask("c", top_k=7)], never))


def test_a_field_of_the_users_own_is_not_left_out(server, sampler):
    server.fault = lambda text, attempt: (400, {"X-Message": "unknown field min_p"})
    with pytest.raises(SamplerError, match=r"refused it with HTTP 400.*min_p"):
        list(sampler(extra={"min_p": 0.0}).generate([ask("a")], never))


# As vLLM, OpenAI, llama.cpp and SGLang word it.
EXCEEDED = [
    "This model's maximum context length is 128 tokens. However, you requested 200 tokens.",
    "context_length_exceeded",
    "the request exceeds the available context size. try increasing the context size",
    "The input (200 tokens) is longer than the model's context length (128 tokens).",
]


@pytest.mark.parametrize("message", EXCEEDED)
def test_fit_takes_what_the_context_leaves(message, server, sampler):
    fault = (400, {"X-Message": message})
    server.fault = lambda text, attempt: fault if text == "long" or attempt == 1 else None
    requests = [replace(ask(text), fit=True) for text in ("short", "long")]
    rows = {row.key[0]: row for row in sampler().generate(requests, never)}
    assert rows["short"].text == "short:0"
    assert (rows["long"].finish, rows["long"].text, rows["long"].tokens) == ("error", "", 0)
    assert message in rows["long"].meta["error"]
    assert [b.get("max_tokens") for b in server.bodies if b["messages"][0]["content"] == "short"] == [
        24,
        None,
    ]
    with pytest.raises(SamplerError, match=r"\('long', 0\).*HTTP 400"):
        list(sampler().generate([ask("long")], never))
    fault = (400, {"X-Message": "temperature is out of range"})
    with pytest.raises(SamplerError, match="out of range"):
        list(sampler().generate(requests, never))
    server.fault = lambda text, attempt: (400, {"X-Message": message})
    row = next(iter(sampler(endpoint="completions").generate([replace(ask("c"), fit=True)], never)))
    assert row.finish == "error"


@pytest.mark.parametrize("fault", [(429, {}), (500, {}), (503, {}), "drop"])
def test_passing_faults_are_retried(fault, server, sampler):
    server.fault = lambda text, attempt: fault if attempt <= 2 else None
    rows = list(sampler().generate([ask(f"p{i}", i, i) for i in range(5)], never))
    assert len(rows) == 5
    assert set(server.tries.values()) == {3}


def test_retry_after_is_honoured(server, sampler):
    server.fault = lambda text, attempt: (429, {"Retry-After": "0.4"}) if attempt == 1 else None
    list(sampler().generate([ask("p")], never))
    assert server.times[1] - server.times[0] >= 0.4
    assert retry_after("1.5") == 1.5
    assert retry_after(None) is None
    assert retry_after("soon") is None
    assert 5 < retry_after(formatdate(time.time() + 10, usegmt=True)) < 11


def test_slow_answers_time_out_and_are_tried_again(server, sampler):
    server.fault = lambda text, attempt: 1.5 if attempt == 1 else None
    rows = list(sampler(timeout_s=0.2).generate([ask("p", 0, 9)], never))
    assert [r.text for r in rows] == ["p:9"]
    assert server.tries["p"] == 2


def test_a_wrong_request_fails_at_once(server, sampler):
    server.fault = lambda text, attempt: (400, {})
    with pytest.raises(SamplerError, match=r"\('p', 7\).*HTTP 400.*injected"):
        list(sampler().generate([ask("p", 7)], never))
    assert server.tries["p"] == 1
    server.fault = lambda text, attempt: (401, {})
    with pytest.raises(SamplerError, match="api_key_env"):
        list(sampler().generate([ask("q")], never))


def test_giving_up_says_how_often_and_why(server, sampler):
    server.fault = lambda text, attempt: (500, {})
    with pytest.raises(SamplerError, match=r"in 3 tries; last: HTTP 500"):
        list(sampler(retries=2).generate([ask("p")], never))
    with pytest.raises(SamplerError, match=r"list of models: no answer.*ConnectError"):
        sampler(base_url="http://127.0.0.1:9/v1", retries=1)


def test_stopping_does_not_wait_for_retries(server, sampler):
    server.fault = lambda text, attempt: (429, {"Retry-After": "60"})
    started = time.monotonic()
    until = started + 0.3
    assert list(sampler().generate([ask("p")], lambda: time.monotonic() > until)) == []
    assert time.monotonic() - started < 5


def test_finished_rows_come_before_slow_ones(server, sampler):
    server.fault = lambda text, attempt: 1.0 if text == "slow" else None
    order = [s.key[0] for s in sampler().generate([ask("slow"), *(ask(f"p{i}") for i in range(6))], never)]
    assert order[-1] == "slow"


def test_none_waits_for_a_completion(server, sampler):
    chains = Chains(2, 3)
    rows = []
    for row in sampler().generate(chains.requests(), never):
        chains.finished(row)
        rows.append(row.key)
    assert sorted(rows) == [(f"chain {i}", n) for i in range(2) for n in range(3)]
    assert 0 < chains.waits <= 6


def test_a_trained_policy_is_refused_unless_the_server_has_it(server, sampler):
    ours = sampler()
    with pytest.raises(SamplerError, match=r"policy@1 is a trained policy.*model_for_version"):
        ours.load(TRAINED)
    with pytest.raises(SamplerError, match="no policy is loaded"):
        list(ours.generate([ask("p")], never))
    with pytest.raises(SamplerError, match="does not serve 'other'"):
        sampler(model="other")
    named = sampler(model_for_version={"policy@1": "tiny-it1"})
    assert named.load(TRAINED)["served"] == "tiny-it1"
    list(named.generate([ask("p")], never))
    assert server.bodies[-1]["model"] == "tiny-it1"


def test_adapters_through_the_servers_endpoint(server, sampler):
    ours = sampler(lora_endpoint=True)
    first = ours.load(TRAINED)["served"]
    second = ours.load(TRAINED.model_copy(update={"version": "policy@2", "digest": "2"}))["served"]
    assert first != second
    assert [p.rsplit("/", 1)[1] for p in server.paths] == [
        "load_lora_adapter",
        "load_lora_adapter",
        "unload_lora_adapter",
    ]
    assert server.bodies[0] == {"lora_name": first, "lora_path": "/a"}
    list(ours.generate([ask("p")], never))
    assert server.bodies[-1]["model"] == second


def test_each_policy_asks_for_its_own_model(server, sampler):
    ours = sampler(model_for_version={"policy@1": "tiny-it1"})
    same = START.model_copy(update={"version": "other@0"})
    report = ours.load(START, TRAINED, same)
    assert [(r["version"], r["served"]) for r in report["others"]] == [("policy@1", "tiny-it1")]
    requests = [
        replace(ask(str(v), n), policy=v) for n, v in enumerate([None, "policy@0", "policy@1", "other@0"])
    ]
    list(ours.generate(requests, never))
    asked = {b["messages"][0]["content"]: b["model"] for b in server.bodies}
    assert asked == {"None": "tiny", "policy@0": "tiny", "policy@1": "tiny-it1", "other@0": "tiny"}
    with pytest.raises(SamplerError, match=r"asks judge@0, but loaded are policy@0, policy@1, other@0"):
        list(ours.generate([replace(ask("p"), policy="judge@0")], never))
    with pytest.raises(SamplerError, match="two different models"):
        ours.load(START, START.model_copy(update={"digest": "9"}))


def test_adapters_side_by_side(server, sampler):
    ours = sampler(lora_endpoint=True)
    two = TRAINED.model_copy(update={"version": "extender@1", "digest": "2"})
    ours.load(TRAINED, two)
    ours.load(TRAINED)
    calls = [p.rsplit("/", 1)[1] for p in server.paths]
    assert calls == ["load_lora_adapter", "load_lora_adapter", "unload_lora_adapter"]
    assert server.bodies[-1]["lora_name"].startswith("extender@1")


def test_request_of_a_call_that_was_given_up_is_not_tried_again_in_the_next() -> None:
    sampler = OpenAISampler(OpenAISpec(model="m", base_url="http://127.0.0.1:9/v1"))
    sampler._served = {None: "m"}
    given_up = threading.Event()
    given_up.set()
    with pytest.raises(_Cancelled):  # though the sampler itself has not been stopped
        sampler._complete(ask("p", 1), given_up)


def test_token_ids_where_the_server_gives_them(server, caplog):
    server.ids = True
    given = OpenAISpec(base_url=server.url, model="tiny").build()
    report = given.load(START)
    assert report["token_ids"]
    (row,) = given.generate([ask("a", 0, 1, logprobs=True)], never)
    assert server.bodies[-1]["return_token_ids"]
    assert server.bodies[-1]["logprobs"] is True
    assert server.bodies[-1]["skip_special_tokens"] is False
    assert (row.generated.ids, row.generated.ended, row.generated.vocabulary) == ([5, 6, 2], True, "")
    assert row.generated.of(row.text)
    assert row.generated.logprobs is None, "there are none in the answer"
    assert "no log-probabilities" in caplog.text
    # A stop string, and log-probabilities in the form of either endpoint.
    content = {"content": [{"token": "x", "logprob": value} for value in (-1, -0.5, -2.0)]}
    server.tokens = lambda body: {"token_ids": [5, 6, 7], "stop_reason": "x", "logprobs": content}
    (row,) = given.generate([ask("b", 0, 1, logprobs=True)], never)
    assert not row.generated.ended
    assert row.generated.logprobs == [-1.0, -0.5, -2.0]
    plain = OpenAISpec(base_url=server.url, model="tiny", endpoint="completions").build()
    plain.load(START)
    server.tokens = lambda body: {"token_ids": [5], "logprobs": {"token_logprobs": [-0.25]}}
    (row,) = plain.generate([ask("c", 0, 1, logprobs=True)], never)
    assert server.bodies[-1]["logprobs"] == 1
    assert row.generated.logprobs == [-0.25]
    for odd in ([], "5", [5, -1], [5, None], None):
        server.tokens = lambda body, odd=odd: {"token_ids": odd, "logprobs": {"token_logprobs": [None]}}
        (row,) = plain.generate([ask("d", 0, 1, logprobs=True)], never)
        assert row.generated is None


def test_without_token_ids_the_sampler_says_so(server, caplog):
    sampler = OpenAISpec(base_url=server.url, model="tiny").build()
    assert not sampler.load(START)["token_ids"]
    rows = list(sampler.generate([ask("a", i, i) for i in range(3)], never))
    assert "return_token_ids" not in server.bodies[-1]
    assert [row.generated for row in rows] == [None] * 3
    assert caplog.text.count("gives no token ids: training encodes its texts anew") == 1
