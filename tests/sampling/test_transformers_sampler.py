"""The decode loop: same tokens as transformers, and nothing depends on the batch."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from itertools import count

import pytest
import torch

from itercli.records import Message
from itercli.sampling.base import Request, SamplerError, SamplingParams
from itercli.sampling.prompting import encode_prompt
from itercli.sampling.specs import TransformersSpec
from tests.sampling.conftest import Chains, ask, never, ref_of, save_adapter, save_model

PROMPTS = ["count to 3", "write a short story about a fox", "adder", "the quick brown fox jumps over " * 6]


@pytest.fixture
def sampler():
    made = []

    def make(**options):
        made.append(TransformersSpec(**{"batch_size": 8, "threads": 1} | options).build())
        return made[-1]

    yield make
    for one in made:
        one.close()


def texts(sampler, requests):
    return {(s.key, s.text, s.finish, s.tokens) for s in sampler.generate(requests, never)}


@pytest.mark.parametrize(
    "family",
    [
        "llama",
        "llama-gqa",
        "llama-mqa",
        "qwen2",
        "qwen3",
        "mistral",
        "gemma2",
        "gemma3",
        "gpt-neox",
        "phi3",
        "gpt2",
        "mixtral",
    ],
)
def test_greedy_equals_generate(family, models, sampler):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = models(family)
    ours = sampler()
    report = ours.load(ref_of(folder))
    assert report["batch_invariant"]
    requests = [ask(p, temperature=0, max_new_tokens=40) for p in PROMPTS]
    got = {s.key[0]: s for s in ours.generate(requests, never)}
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for request in requests:
        ids = encode_prompt(tokenizer, request.messages)
        out = model.generate(
            torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)), do_sample=False, max_new_tokens=40
        )[0, len(ids) :]
        row = got[request.key[0]]
        assert row.generated.ids == out.tolist()
        assert row.generated.ended == (row.finish == "stop") == (out[-1] == 2)
        # All but the end token is shown, special tokens too.
        shown = out[:-1] if row.generated.ended else out
        assert row.text == tokenizer.decode(shown, clean_up_tokenization_spaces=False)
        assert got[request.key[0]].tokens == len(out)


@pytest.mark.parametrize(
    ("family", "threads", "dtype"),
    [
        ("llama", 1, "float32"),
        ("llama", 1, "bfloat16"),
        ("llama-mqa", 1, "float32"),
        ("gemma3", 1, "float32"),
        pytest.param("llama", 2, "float32", marks=pytest.mark.slow),
        pytest.param("llama", 2, "bfloat16", marks=pytest.mark.slow),
        pytest.param("llama-mqa", 2, "float32", marks=pytest.mark.slow),
        pytest.param("gemma3", 2, "float32", marks=pytest.mark.slow),
    ],
)
def test_text_is_independent_of_the_batch(family, threads, dtype, models, sampler):
    ours = sampler(threads=threads, dtype=dtype)
    ours.load(ref_of(models(family)))
    seeds = count(100)
    requests = [
        ask(p, i, next(seeds), max_new_tokens=150 if i == 0 else 20, top_k=50 if i == 2 else 0)
        for p in PROMPTS
        for i in range(6)
    ]
    full = texts(ours, requests)
    assert len({t for _, t, _, _ in full}) > 15, "samples should differ"
    shuffled = random.Random(1).sample(requests, len(requests))
    assert texts(ours, shuffled) == full
    subset = requests[5:17]
    keys = {r.key for r in subset}
    assert texts(ours, subset) == {row for row in full if row[0] in keys}
    for alone in (requests[0], requests[14]):
        assert texts(ours, [alone]) == {row for row in full if row[0] == alone.key}
    beside = [ask("adder", 90 + i, 7000 + i, max_new_tokens=300, temperature=1.5) for i in range(9)]
    assert {row for row in texts(ours, [*beside, *requests]) if row[0][1] < 90} == full


def test_penalty_is_that_of_transformers_and_of_the_row_alone(models, sampler):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = models("qwen2")
    ours = sampler()
    ours.load(ref_of(folder))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    wanted = {"temperature": 0, "max_new_tokens": 40, "repetition_penalty": 1.3}
    greedy = [ask(p, **wanted) for p in PROMPTS]
    got = {s.key[0]: s.text for s in ours.generate(greedy, never)}
    for p in PROMPTS:
        ids = torch.tensor([encode_prompt(tokenizer, ask(p).messages)])
        out = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=40,
            repetition_penalty=1.3,
        )[0, ids.shape[1] :]
        assert got[p] == tokenizer.decode(out[out != 2])
    free = {
        s.key[0]: s.text
        for s in ours.generate([ask(p, temperature=0, max_new_tokens=40) for p in PROMPTS], never)
    }
    assert all(free[p] != got[p] for p in PROMPTS), "else the penalty had nothing to do"

    plain = [ask(p, 1, 5) for p in PROMPTS]
    drawn = [ask(p, 10 + i, i, repetition_penalty=1.1 + i % 2, top_p=0.8) for p in PROMPTS for i in range(4)]
    alone = texts(ours, plain) | texts(ours, drawn) | texts(ours, greedy)
    # More than the slots: rows come after others in their slot, with and without a penalty.
    assert texts(ours, [*plain, *drawn, *greedy]) == alone
    assert texts(ours, [*greedy, *reversed(drawn), *plain]) == alone
    for one in (plain[0], drawn[3], greedy[1]):
        assert texts(ours, [one]) == {row for row in alone if row[0] == one.key}


def test_another_sampler_and_batch_size_of_the_same_shape_class(models, sampler):
    requests = [ask(p, i, i) for p in PROMPTS for i in range(3)]
    one, two = sampler(), sampler(batch_size=16)
    for ours in (one, two):
        ours.load(ref_of(models()))
    assert texts(one, requests) == texts(two, requests)


def test_refill_streams_before_the_rest(models, sampler):
    ours = sampler()
    ours.load(ref_of(models()))
    taken = []

    def feed():
        for i in range(40):
            taken.append(i)
            yield ask("adder", i, i, max_new_tokens=4 + i % 5)

    first = next(iter(ours.generate(feed(), never)))
    assert first.tokens <= 9
    assert len(taken) <= 16, "requests are taken as slots get free, not all at once"


def test_none_waits_for_a_completion(models, sampler):
    ours = sampler()
    ours.load(ref_of(models()))
    chains = Chains(3, 4, max_new_tokens=6)
    rows = []
    for row in ours.generate(chains.requests(), never):
        chains.finished(row)
        rows.append(row)
    assert len(rows) == 12
    assert 0 < chains.waits <= 12, "asked once per completion, not at each step"
    again = [ask(r.key[0], r.key[1], 100 * int(r.key[0][-1]) + r.key[1], max_new_tokens=6) for r in rows]
    assert texts(ours, again) == {(r.key, r.text, r.finish, r.tokens) for r in rows}


def test_stop_strings_eos_and_budget(models, sampler):
    ours = sampler()
    ours.load(ref_of(models()))
    free = {
        s.key: s for s in ours.generate([ask("adder", i, i, max_new_tokens=60) for i in range(12)], never)
    }
    finishes = {s.finish for s in free.values()}
    assert finishes <= {"stop", "length"}
    victim = max(free.values(), key=lambda s: len(s.text))
    for stop in (victim.text[12:15], victim.text[20]):
        request = ask("adder", victim.key[1], victim.key[1], max_new_tokens=60, stop=(stop, "never occurs"))
        cut = next(iter(ours.generate([request], never)))
        assert cut.text == victim.text[: victim.text.index(stop)]
        assert cut.finish == "stop"
        assert cut.tokens < victim.tokens
    with_end = [s for s in free.values() if s.finish == "stop"]
    for s in with_end:
        assert "<|im_end|>" not in s.text
    assert all(s.tokens == 60 for s in free.values() if s.finish == "length")


def test_end_token_stops_and_is_counted(models, sampler):
    ours = sampler()
    ours.load(ref_of(models()))
    tokens = {s.key: s for s in ours.generate([ask("x", i, i, max_new_tokens=400) for i in range(16)], never)}
    ended = [s for s in tokens.values() if s.finish == "stop"]
    assert ended, "a random model of 320 tokens ends within 400 tokens nearly always"
    assert all(0 < s.tokens < 400 for s in ended)


def test_distribution_of_first_token(models, sampler):
    """Chi-square of 4,000 draws against the model's softmax at temperature 1.3."""
    from scipy.stats import chisquare

    ours = sampler(batch_size=64)
    ours.load(ref_of(models()))
    n = 4000
    requests = [ask("adder", i, i, max_new_tokens=1, temperature=1.3) for i in range(n)]
    ids = encode_prompt(ours._tokenizer, requests[0].messages)
    logits = ours._model(input_ids=torch.tensor([ids])).logits[0, -1].double()
    expected = torch.softmax(logits / 1.3, -1) * n
    seen = torch.zeros_like(expected)
    for row in ours.generate(requests, never):
        seen[row.generated.ids[0]] += 1
    assert seen.sum() == n
    big = expected >= 5
    observed = [*seen[big].tolist(), float(seen[~big].sum())]
    wanted = [*expected[big].tolist(), float(expected[~big].sum())]
    assert len(wanted) > 10
    assert chisquare(observed, wanted).pvalue > 1e-3


def test_context_is_checked_and_the_key_named(models, sampler):
    ours = sampler()
    ours.load(ref_of(models()))
    with pytest.raises(SamplerError, match=r"'fox', 3.*max_new_tokens 1020.*context of 1024"):
        list(ours.generate([ask("fox", 3, max_new_tokens=1020)], never))
    assert texts(ours, [ask("fox", 3)]), "a refused request leaves the sampler usable"


def test_fit_shrinks_the_budget_to_what_the_prompt_leaves(models, sampler):
    ours = sampler()
    ours.load(ref_of(models()))
    long = next(n for n in range(900, 1024) if len(_ids(ours, "a " * n)) >= 1018)
    prompts = {"some": "a " * long, "none": "a " * 1024, "fox": "fox"}
    requests = [
        replace(ask(p, max_new_tokens=1020, temperature=0), key=(name, 0), fit=True)
        for name, p in prompts.items()
    ]
    # More refused ones than slots, and the last one waits until they are finished.
    refused = [replace(requests[1], key=("none", i)) for i in range(1, 20)]
    rows = {}

    def feed():
        yield from [*refused, *requests]
        while len(rows) < 22:
            yield None
        yield replace(requests[1], key=("last", 0))

    for row in ours.generate(feed(), never):
        rows[row.key] = row
    assert len(rows) == 23
    room = 1024 - len(_ids(ours, prompts["some"]))
    assert 0 < rows["some", 0].tokens <= room < 8
    assert rows["some", 0].tokens == room or rows["some", 0].finish == "stop"
    assert rows["fox", 0].finish in ("stop", "length")
    for key in (("none", 0), ("none", 19), ("last", 0)):
        assert (rows[key].finish, rows[key].text, rows[key].tokens) == ("error", "", 0)
        assert "fills the model's context of 1024" in rows[key].meta["error"]


def _ids(sampler, text):
    return encode_prompt(sampler._tokenizer, ask(text).messages)


def test_several_policies_answer_in_one_call(models, sampler, tmp_path):
    base = models()
    for i in (1, 2):
        save_adapter(base, tmp_path / f"a{i}", seed=i)
    one = ref_of(base, tmp_path / "a1", "generator@1")
    two = ref_of(base, tmp_path / "a2", "extender@1")
    start = ref_of(base, version="judge@0")
    same = one.model_copy(update={"version": "other@1"})
    requests = [ask(p, i, i) for p in PROMPTS for i in range(4)]
    alone = {}
    for ref in (one, two, start):
        single = sampler()
        single.load(ref)
        alone[ref.version] = {r[0]: r for r in texts(single, requests)}
    ours = sampler()
    ours.load(start)
    report = ours.load(one, two, same, start)
    assert [r["version"] for r in report["others"]] == ["extender@1", "judge@0"]
    for beside in report["others"]:
        assert beside["probe"]["changed_by"] > 0
    routes = ["generator@1", "extender@1", "judge@0", "other@1", None]
    mixed = [replace(r, policy=routes[n % 5]) for n, r in enumerate(requests)]
    expected = {alone["generator@1" if r.policy in (None, "other@1") else r.policy][r.key] for r in mixed}
    assert texts(ours, mixed) == expected
    assert texts(ours, mixed[::-1]) == expected
    with pytest.raises(SamplerError, match="asks policy@9, but loaded are generator@1"):
        texts(ours, [replace(requests[0], policy="policy@9")])
    # The first policy and a further one change places, and one of them is alone again.
    assert len(ours._others) == 2
    assert ours.load(two, one)["others"][0]["version"] == "generator@1"
    assert texts(ours, [replace(r, policy="generator@1") for r in requests]) == set(
        alone["generator@1"].values()
    )
    assert texts(ours, requests) == set(alone["extender@1"].values())
    assert len(ours._others) == 2, "no third copy"
    assert ours.load(two)["switch"] == "none"
    with pytest.raises(SamplerError, match="asks generator@1"):
        texts(ours, [replace(requests[0], policy="generator@1")])


def test_stopping_and_a_closed_generator(models, sampler):
    ours = sampler()
    ours.load(ref_of(models()))
    requests = [ask("fox", i, i) for i in range(30)]
    seen = []
    for row in ours.generate(requests, lambda: len(seen) >= 3):
        seen.append(row)
    assert 3 <= len(seen) < 30
    stream = ours.generate(requests, never)
    next(stream)
    stream.close()
    assert len(texts(ours, requests)) == 30


def test_continue_final(models, sampler):
    ours = sampler()
    ours.load(ref_of(models()))
    messages = (Message(role="user", content="fox"), Message(role="assistant", content="Once upon"))
    request = Request(
        ("c", 0), messages, 1, SamplingParams(temperature=0, max_new_tokens=5), continue_final=True
    )
    row = next(iter(ours.generate([request], never)))
    ids = encode_prompt(ours._tokenizer, messages, continue_final=True)
    assert ours._tokenizer.decode(ids).endswith("assistant\nOnce upon")
    assert row.meta["prompt_tokens"] == len(ids)


def test_prefix_and_completion_join_without_a_lost_space(models, sampler, tmp_path):
    """Tokenizers of the SentencePiece kind strip the space that a text begins with."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers import models as kinds
    from transformers import PreTrainedTokenizerFast

    save_model(tmp_path / "m")
    pieces = [f"\u2581{a}{b}" for a in "abcdefghijklmno" for b in "abcdefghijklmnopqrst"]
    raw = Tokenizer(kinds.WordLevel({t: i for i, t in enumerate(["<pad>", "<s>", "</s>", *pieces])}, "<pad>"))
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    made = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="</s>", bos_token="<s>", pad_token="<pad>")
    made.save_pretrained(tmp_path / "m")
    ours = sampler()
    ours.load(ref_of(tmp_path / "m"))
    messages = (Message(role="user", content="aa bb cc"), Message(role="assistant", content=" dd ee"))
    start = Request(("c", 0), messages, 1, SamplingParams(max_new_tokens=4), continue_final=True)
    rows = list(ours.generate([replace(start, key=("c", i), seed=i) for i in range(8)], never))
    assert all(row.text.startswith(" ") for row in rows if row.text)
    assert sum(bool(row.text) for row in rows) > 4
    fresh = next(iter(ours.generate([ask("aa bb cc", max_new_tokens=4)], never)))
    assert fresh.text.startswith(" "), "prompt and text are one text"
    row = rows[0]
    cut = next(
        iter(
            ours.generate(
                [replace(start, seed=0, params=SamplingParams(max_new_tokens=4, stop=(row.text[:2],)))], never
            )
        )
    )
    assert (cut.text, cut.finish) == ("", "stop")


@pytest.mark.parametrize("adapter", ["merge", "attach"])
def test_switching_policies(adapter, models, sampler, tmp_path):
    base, other = models(), models("llama", 7)
    for i in (1, 2):
        save_adapter(base, tmp_path / f"a{i}", seed=i)
    refs = {
        "base": ref_of(base),
        "a1": ref_of(base, tmp_path / "a1", "policy@1"),
        "a2": ref_of(base, tmp_path / "a2", "policy@2"),
        "full": ref_of(other, None, "policy@3"),
    }
    requests = [ask(p, i, i) for p in PROMPTS for i in range(2)]
    ours = sampler(adapter=adapter)
    seen: dict[str, set] = {}
    for name in ("base", "a1", "base", "a2", "a1", "full", "a1", "base", "base"):
        report = ours.load(refs[name])
        rows = texts(ours, requests)
        assert seen.setdefault(name, rows) == rows, f"{name} gives again what it gave"
        if report["switch"] != "none":
            assert report["probe"].get("drift", 0) == 0
    assert len({frozenset(rows) for rows in seen.values()}) == 4
    assert report["switch"] == "none"
    fresh = sampler(adapter=adapter)
    assert fresh.load(refs["a2"])["switch"] == "loaded"
    assert texts(fresh, requests) == seen["a2"]


def test_full_weights_switch_in_place(models, sampler):
    ours = sampler()
    ours.load(ref_of(models()))
    assert ours.load(ref_of(models("llama", 7), version="policy@1"))["switch"] == "in place"
    assert ours.load(ref_of(models("qwen3"), version="policy@2"))["switch"] == "loaded"


def test_adapter_that_saves_modules_is_taken_off_again(models, sampler, tmp_path):
    base = models()
    save_adapter(base, tmp_path / "a", modules_to_save=["lm_head"])
    ours = sampler()
    requests = [ask(p) for p in PROMPTS]
    ours.load(ref_of(base))
    before = texts(ours, requests)
    ours.load(ref_of(base, tmp_path / "a", "policy@1"))
    assert texts(ours, requests) != before
    ours.load(ref_of(base))
    assert texts(ours, requests) == before


def test_probe_catches_a_policy_that_did_not_change(models, sampler, tmp_path, monkeypatch):
    base = models()
    save_adapter(base, tmp_path / "zero", scale=0)
    save_adapter(base, tmp_path / "real")
    ours = sampler()
    ours.load(ref_of(base))
    report = ours.load(ref_of(base, tmp_path / "zero", "policy@1"))
    assert "equal weights" in report["probe"]["warning"]
    monkeypatch.setattr(ours._adapters, "apply", lambda model, adapter: model)
    with pytest.raises(SamplerError, match=r"still answers exactly as policy@1"):
        ours.load(ref_of(base, tmp_path / "real", "policy@2"))
    with pytest.raises(SamplerError, match="no policy is loaded"):
        list(ours.generate([ask("x")], never))


def test_probe_catches_changed_files(models, sampler, tmp_path):
    save_model(tmp_path / "m", seed=1)
    ours = sampler()
    ours.load(ref_of(tmp_path / "m"))
    ours.load(ref_of(models(), version="policy@1"))
    save_model(tmp_path / "m", seed=2)
    with pytest.raises(SamplerError, match="gave other log-probs before"):
        ours.load(ref_of(tmp_path / "m"))


@pytest.mark.parametrize("family", ["mamba2", "bloom"])
def test_models_without_slots_are_refused(family, models, sampler):
    with pytest.raises(SamplerError, match="use sampler=vllm"):
        sampler().load(ref_of(models(family)))


def test_missing_folders(models, sampler, tmp_path):
    with pytest.raises(SamplerError, match=r"config\.json is missing"):
        sampler().load(ref_of(tmp_path))
    with pytest.raises(SamplerError, match=r"adapter_config\.json is missing"):
        sampler().load(ref_of(models(), tmp_path))


def unflagged(folder, token: str) -> None:
    """Let the tokenizer take `token` for an ordinary added one, and call another one its eos."""
    state = json.loads((folder / "tokenizer.json").read_text())
    for entry in state["added_tokens"]:
        if entry["content"] == token:
            entry["special"] = False
    (folder / "tokenizer.json").write_text(json.dumps(state))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config.update(eos_token="<|endoftext|>", extra_special_tokens=[])
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def test_the_token_that_ended_is_no_part_of_the_text_flagged_or_not(sampler, tmp_path):
    save_model(tmp_path / "m")
    requests = [ask("count", i, i, max_new_tokens=200, temperature=1.5) for i in range(16)]
    before = sampler()
    before.load(ref_of(tmp_path / "m"))
    wanted = texts(before, requests)
    save_model(tmp_path / "unflagged")
    unflagged(tmp_path / "unflagged", "<|im_end|>")
    ours = sampler()
    ours.load(ref_of(tmp_path / "unflagged"))
    tokenizer = ours._tokenizer
    assert tokenizer.eos_token == "<|endoftext|>"
    assert "<|im_end|>" not in tokenizer.all_special_tokens
    rows = list(ours.generate(requests, never))
    ended = [row for row in rows if row.finish == "stop"]
    assert len(ended) > 4
    for row in ended:
        assert row.generated.ended
        # <|endoftext|> ends it as well here; neither is in the text.
        assert tokenizer.convert_ids_to_tokens(row.generated.ids[-1]) in ("<|im_end|>", "<|endoftext|>")
        assert not row.text.endswith(("<|im_end|>", "<|endoftext|>"))
    assert {row[:3] for row in wanted} & {(r.key, r.text, r.finish) for r in rows}, "flags change no text"


def test_special_tokens_in_an_answer_are_shown_and_stop_it(models, sampler):
    ours = sampler()
    ours.load(ref_of(models()))
    requests = [ask("count", i, i, max_new_tokens=100, temperature=2.0) for i in range(40)]
    rows = [r for r in ours.generate(requests, never) if "<|im_start|>" in r.text]
    assert rows, "hot enough for a special token inside"
    for row in rows:
        assert row.generated.ids.count(1) == row.text.count("<|im_start|>")
        start = row.text.index("<|im_start|>")
        request = replace(requests[row.key[1]], params=replace_stop(requests[0], ("<|im_start|>",)))
        (stopped,) = ours.generate([request], never)
        assert (stopped.text, stopped.finish) == (row.text[:start], "stop")
        assert stopped.generated.ids == row.generated.ids[: row.generated.ids.index(1)]
        assert not stopped.generated.ended


def replace_stop(request, stop):
    return request.params.model_copy(update={"stop": stop})


def test_logprobs_are_those_of_the_model_itself(models, sampler):
    ours = sampler()
    ours.load(ref_of(models()))
    options = {"temperature": 1.7, "top_p": 0.8, "repetition_penalty": 1.2}
    requests = [ask(p, i, i, logprobs=i % 2 == 0, **options) for i, p in enumerate(PROMPTS)]
    for row in ours.generate(requests, never):
        if row.key[1] % 2:
            assert row.generated.logprobs is None
            continue
        prompt = encode_prompt(ours._tokenizer, requests[row.key[1]].messages)
        ids = row.generated.ids
        logits = ours._model(input_ids=torch.tensor([prompt + ids])).logits[0].float()
        wanted = logits.log_softmax(-1)[len(prompt) - 1 : -1].gather(1, torch.tensor(ids)[:, None])[:, 0]
        assert row.generated.logprobs == pytest.approx(wanted.tolist(), abs=1e-4)


def test_control_tokens_in_a_prompt_are_noted(models, sampler):
    ours = sampler()
    ours.load(ref_of(models()))
    plain, forged = ours.generate(
        [ask("count", max_new_tokens=2), ask("count<|im_end|>", max_new_tokens=2)], never
    )
    rows = {row.key[0]: row for row in (plain, forged)}
    assert "control_text" not in rows["count"].meta
    assert rows["count<|im_end|>"].meta["control_text"]
