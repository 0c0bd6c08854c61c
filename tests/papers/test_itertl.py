import random
import subprocess
import sys

import pytest

from itercli.papers import itertl
from itercli.papers.baselines import Best, References
from itercli.papers.itertl import QualityScorer, RankingSelector
from itercli.papers.rtlcoder_score import parse, quality, rouge_l
from itercli.records import Message, Prompt, Score, Trajectory
from itercli.stages.selectors import Dropped
from itercli.verifiers.base import Scorer

HEADER = "module top_module(input a, input b, output y);"
GOOD = HEADER + "\n  assign y = a & b;\nendmodule\n"
WRONG = HEADER + "\n  assign y = a | b;\nendmodule\n"
BAD = HEADER + "\n  assign y = a & b\nendmodule\n"
STUB = HEADER + "\nendmodule\n"


def prompt(reference=GOOD, id="p"):
    return Prompt(
        id=id,
        messages=[Message(role="user", content="and gate")],
        reference=reference,
        meta={"header": HEADER, "top": "top_module"},
    )


def score(index, completion, value=1.0, passed=None, **fields):
    return Score(
        prompt_id="p",
        index=index,
        completion=completion,
        policy="policy@1",
        value=value,
        passed=passed,
        **fields,
    )


class FakeVerifier(Scorer):
    """Passes what equals GOOD; refuses what prints."""

    def open(self):
        class Judge:
            def score(self, prompt, trajectory):
                passed = trajectory.completion == GOOD
                outcome = (
                    "refused" if "$display" in trajectory.completion else "pass" if passed else "mismatch"
                )
                return score(
                    trajectory.index,
                    trajectory.completion,
                    float(passed),
                    passed,
                    outcome=outcome,
                    answer=trajectory.completion,
                    meta={"seconds": 1},
                )

            def close(self):
                pass

        return Judge()

    def fingerprint(self):
        return {"tool": "1"}


def judged(completion, reference=GOOD, **options):
    judge = QualityScorer(verifier=FakeVerifier(), **options).open()
    row = judge.score(
        prompt(reference),
        Trajectory(
            prompt_id="p", index=3, seed=1, completion=completion, finish="stop", tokens=9, policy="policy@1"
        ),
    )
    judge.close()
    return row


def select(selector, groups, seed=0):
    items = list(selector.select(groups, rng=random.Random(seed)))
    return [i for i in items if not isinstance(i, Dropped)], [
        (i.index, i.reason) for i in items if isinstance(i, Dropped)
    ]


# --- RTLCoder's score


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (GOOD, "good"),
        (WRONG, "good"),
        (BAD, "bad"),
        (STUB, "stub"),
        ("", "stub"),
        ("here is the code", "bad"),
        ("module m(output reg q); reg r = 0; always @(*) begin end endmodule", "stub"),
        ("module m(input a, output y); wire y = a; endmodule", "good"),
        ("module m(input a, output y); buf (y, a); endmodule", "good"),
        ("module m(input a, output y); sub u(a, y); endmodule", "good"),
        ("module m(input c, d, output reg q); always @(posedge c) q <= d; endmodule", "good"),
        ("`define W 4\nmodule m(output [`W-1:0] y); assign y = 0; endmodule", "good"),
    ],
)
def test_kinds(code, kind):
    assert parse(code)[0] == kind


def test_hostile_text_does_not_reach_the_parser_unbounded(tmp_path):
    (tmp_path / "secret.v").write_text("wire w;")
    bomb = "`define A0 a a\n" + "".join(f"`define A{i} `A{i - 1} `A{i - 1}\n" for i in range(1, 40))
    for code in (
        f'`include "{tmp_path}/secret.v"\nmodule m; endmodule',
        bomb + "module m; `A39 endmodule",
        "`define D(x) x x\nmodule m; `D(`D(`D(`D(a)))) endmodule",
        "`define L " + "a " * 20_000 + "\nmodule m; " + "`L " * 5_000 + " endmodule",
        "module m; assign y = " + "(" * 40_000 + "a" + ")" * 40_000 + "; endmodule",
        "module m; endmodule" + " " * 100_001,
    ):
        assert parse(code)[0] == "bad"


def test_values():
    assert quality(WRONG, GOOD).value == 1.0
    assert quality(STUB, GOOD).value == 0.01
    assert quality(STUB, GOOD, stub_score=0.5).value == 0.5
    assert quality(BAD, None).value == 0.0
    assert quality(BAD, None, no_reference_score=0.2).value == 0.2
    assert 0.9 < quality(BAD, GOOD).value < 1.0
    assert quality("nonsense text", GOOD).value == 0.0
    # A reference that does not parse itself: its copy still scores below what parses.
    assert quality(BAD, BAD).value == 0.99


def test_rouge_l():
    assert rouge_l("a b c d", "a b c d") == 1.0
    # Longest common subsequence (a, c, d) of 4 and 5 tokens.
    assert rouge_l("a c x d", "a b c d e") == pytest.approx(2 * 3 / 9)
    assert rouge_l("a // b\n", "a /* c */") == 1.0
    assert rouge_l("", "a") == rouge_l("a", "") == 0.0
    # Operators count, unlike in ROUGE's own words.
    assert rouge_l("y = a & b", "y = a | b") == pytest.approx(0.8)


def test_rouge_l_agrees_with_the_reference_implementation():
    scorer = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer(["rougeL"])
    rng = random.Random(0)
    for _ in range(50):
        a, b = (" ".join(rng.choices("abcdef", k=rng.randrange(1, 90))) for _ in range(2))
        assert rouge_l(a, b) == pytest.approx(scorer.score(b, a)["rougeL"].fmeasure)


# --- the scorer


def test_quality_keeps_the_verdict():
    row = judged(WRONG)
    assert (row.value, row.passed, row.outcome) == (1.0, False, "mismatch")
    assert row.meta == {"seconds": 1, "quality": 1.0, "quality_kind": "good"}
    assert judged(GOOD).passed is True


def test_score_rules():
    assert judged(WRONG, score_rule="functional").value == 0.0
    assert judged(WRONG, score_rule="mixed").value == 0.5
    assert judged(GOOD, score_rule="mixed").value == 1.0
    assert 0.4 < judged(BAD, score_rule="mixed").value < 0.5


def test_breaking_the_rules_scores_nothing():
    cheat = GOOD.replace("assign", 'initial $display("Mismatches: 0 in 9 samples"); assign')
    assert judged(cheat).value == 0.0
    assert judged(cheat, verify=False).value == 0.0


def test_without_verifier():
    row = judged(WRONG, verify=False)
    assert (row.value, row.passed, row.outcome, row.answer) == (1.0, None, "good", WRONG)
    # A completion that goes on from the header is judged with it.
    assert judged("  assign y = a;\nendmodule\n", verify=False).value == 1.0
    assert "tool" not in QualityScorer(verifier=FakeVerifier(), verify=False).fingerprint()
    assert QualityScorer(verifier=FakeVerifier()).fingerprint().keys() == {"pyslang", "tool"}
    with pytest.raises(ValueError, match="verify"):
        QualityScorer(verifier=FakeVerifier(), verify=False, score_rule="mixed")


# --- the selector


def test_reference_comes_last_with_score_one():
    rows, dropped = select(RankingSelector(), [(prompt(), [score(1, BAD, 0.9), score(0, WRONG, 1.0)])])
    assert dropped == []
    assert rows[0].responses == [WRONG, BAD, GOOD]
    assert rows[0].scores == [1.0, 0.9, 1.0]
    assert rows[0].target == 2
    assert rows[0].sources == ["policy@1", "policy@1", "reference"]


def test_duplicates_and_empty_candidates():
    scores = [score(0, WRONG), score(1, WRONG + "\n"), score(2, GOOD), score(3, " \n"), score(4, BAD)]
    rows, dropped = select(RankingSelector(), [(prompt(), scores)])
    assert rows[0].responses == [WRONG, BAD, GOOD]
    assert dropped == [(1, "duplicate"), (2, "duplicate"), (3, "empty")]
    rows, _ = select(RankingSelector(deduplicate=False), [(prompt(), scores)])
    assert len(rows[0].responses) == 5


def test_verified_target_keeps_the_reference_out():
    other = GOOD.replace("a & b", "b & a")
    scores = [score(0, BAD, 0.9, False), score(1, GOOD, 1.0, True), score(2, other, 1.0, True)]
    groups = [(prompt(reference="not to be seen", id=f"p{i}"), scores) for i in range(20)]
    rows, _ = select(RankingSelector(targets="verified"), groups)
    assert {row.target for row in rows} == {1, 2}
    assert all("not to be seen" not in row.responses for row in rows)
    assert rows == select(RankingSelector(targets="verified"), groups)[0]
    # The draw for a prompt does not depend on the other prompts.
    assert rows[7:8] == select(RankingSelector(targets="verified"), groups[7:8])[0]
    assert rows != select(RankingSelector(targets="verified"), groups, seed=1)[0]


def test_no_target():
    scores = [score(0, BAD, 0.9, False), score(1, WRONG, 1.0, False)]
    for targets, reference, reason in (
        ("verified", GOOD, "none_verified"),
        ("reference", None, "no_reference"),
        ("reference_or_verified", None, "none_verified"),
    ):
        group = [(prompt(reference), scores)]
        assert select(RankingSelector(targets=targets), group) == ([], [(None, reason)])
        rows, _ = select(RankingSelector(targets=targets, keep_targetless=True), group)
        assert (rows[0].target, rows[0].responses) == (None, [BAD, WRONG])
    only = [(prompt(None), scores[:1])]
    assert select(RankingSelector(keep_targetless=True), only) == ([], [(None, "nothing_to_rank")])


def test_reference_or_verified():
    scores = [score(0, GOOD, 1.0, True), score(1, BAD, 0.5, False)]
    rows, _ = select(
        RankingSelector(targets="reference_or_verified"), [(prompt(WRONG), scores), (prompt(None), scores)]
    )
    assert (rows[0].responses, rows[0].target) == ([GOOD, BAD, WRONG], 2)
    assert (rows[1].responses, rows[1].target) == ([GOOD, BAD], 0)


def test_max_candidates_keeps_the_target():
    scores = [score(i, f"{BAD}// {i}", 0.5, False) for i in range(3)] + [score(3, GOOD, 1.0, True)]
    rows, _ = select(RankingSelector(targets="verified", max_candidates=2), [(prompt(), scores)])
    assert rows[0].responses == [scores[0].completion, GOOD]
    assert rows[0].target == 1
    rows, _ = select(RankingSelector(max_candidates=2), [(prompt(WRONG), scores)])
    assert rows[0].responses == [scores[0].completion, scores[1].completion, WRONG]


def test_prompt_without_samples_still_teaches_its_reference():
    rows, _ = select(RankingSelector(), [(prompt(), [])])
    assert (rows[0].responses, rows[0].target) == ([GOOD], 0)


def test_training_on_the_extracted_answer():
    wordy = score(0, f"Sure:\n```verilog\n{WRONG}```", answer=WRONG)
    rows, _ = select(RankingSelector(text="answer"), [(prompt(), [wordy])])
    assert rows[0].responses == [WRONG, GOOD]


def test_filter():
    unknown = HEADER + "\n  missing u(.a(a), .y(y));\nendmodule\n"
    selector = RankingSelector(filter_self_contained=True)
    deep = GOOD.replace("a & b", "(" * 5_000 + "a" + ")" * 5_000)
    rows, dropped = select(selector, [(prompt(), [score(0, unknown), score(1, WRONG), score(2, deep)])])
    assert rows[0].responses == [WRONG, GOOD]
    assert dropped == [(0, "not_self_contained"), (2, "not_self_contained")]
    assert select(selector, [(prompt(unknown), [score(1, WRONG)])]) == (
        [],
        [(None, "reference: not_self_contained"), (None, "no_reference")],
    )


# --- what ITERTL is compared with


def test_references():
    rows, dropped = select(References(), [(prompt(), []), (prompt(None), [score(0, GOOD)])])
    assert [(r.responses, r.target) for r in rows] == [([GOOD], 0)]
    assert dropped == [(None, "no_reference")]


def test_best_of_n():
    scores = [
        score(0, WRONG, 0.5, False),
        score(1, GOOD, 0.9, True),
        score(2, GOOD, 0.9, True),
        score(3, STUB, 1.0, True),
    ]
    assert [r.responses for r in select(Best(), [(prompt(), scores)])[0]] == [[STUB]]
    assert [r.responses for r in select(Best(n=3), [(prompt(), scores)])[0]] == [[STUB], [GOOD]]
    assert len(select(Best(n=9, require_passed=False), [(prompt(), scores)])[0]) == 3
    assert select(Best(min_value=2), [(prompt(), scores)]) == ([], [(None, "none_good_enough")])


def test_planning_imports_nothing_heavy():
    code = (
        f"import sys, {itertl.__name__}\n"
        "heavy = {'torch', 'transformers', 'peft', 'trl', 'datasets', 'pyslang'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
