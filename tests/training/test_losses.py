import math

import pytest
import torch

from itercli.training.collate import Group, Row
from itercli.training.losses import (
    RankingObjective,
    SftObjective,
    Totals,
    ranking_loss,
    response_logprobs,
)


def rank(p, scores, score_margin=0.2, prob_margin=0.3):
    loss = ranking_loss(
        torch.tensor(p, dtype=torch.float64), scores, score_margin=score_margin, prob_margin=prob_margin
    )
    return loss.item()


def group(prompt_len=2, lengths=(4, 6), scores=(0.0, 1.0), target=1):
    rows = tuple(Row(torch.arange(n).numpy(), prompt_len) for n in lengths)
    return Group("p", rows, tuple(scores), target)


def objective(**options):
    defaults = {
        "compare_weight": 1.0,
        "mle_weight": 1.0,
        "score_margin": 0.2,
        "prob_margin": 0.3,
        "length_norm": "response",
        "combine": "sum",
    }
    return RankingObjective(**(defaults | options))


def test_equal_likelihoods_give_the_margin_per_ranked_pair():
    # s = 1/3 each, so each of the pairs (0,1), (0,2), (1,2) adds 0.3 - 0.
    assert rank([-1.0, -1.0, -1.0], [0.0, 0.5, 1.0]) == pytest.approx(0.9)


def test_hand_computed_pair():
    # s = softmax(ln 3, ln 1) = (0.75, 0.25): the better one trails by 0.5.
    assert rank([math.log(3), 0.0], [0.0, 1.0]) == pytest.approx(0.3 + 0.5)
    # The other way round it leads by 0.5 >= 0.3: nothing to gain.
    assert rank([math.log(3), 0.0], [1.0, 0.0]) == 0.0
    # A lead of 0.5 is not enough for a margin of 0.6.
    assert rank([math.log(3), 0.0], [1.0, 0.0], prob_margin=0.6) == pytest.approx(0.1)


def test_ties_and_close_scores_are_not_ranked():
    assert rank([-3.0, -1.0, -2.0], [1.0, 1.0, 1.0]) == 0.0
    assert rank([-1.0, -1.0], [0.9, 1.0]) == 0.0
    # Exactly the margin does not count, also where float32 would round it up.
    assert rank([-1.0, -1.0], [0.8, 1.0]) == 0.0


def test_ranking_gradient_raises_the_better_candidate():
    p = torch.tensor([-1.0, -1.0, -1.0], requires_grad=True)
    ranking_loss(p, [0.0, 1.0, 0.0], score_margin=0.2, prob_margin=0.3).backward()
    # dL/ds_1 = -2, dL/ds_0 = dL/ds_2 = 1; through the softmax: (1/3 + 0, -2/3, 1/3).
    assert p.grad.tolist() == pytest.approx([1 / 3, -2 / 3, 1 / 3])


def test_response_logprobs_ignore_what_is_not_labelled():
    logits = torch.randn(2, 3, 5)
    labels = torch.tensor([[-100, 2, 4], [1, -100, -100]])
    logp = logits.log_softmax(-1)
    expected = [logp[0, 1, 2] + logp[0, 2, 4], logp[1, 0, 1]]
    assert torch.allclose(response_logprobs(logits, labels), torch.stack(expected))
    assert response_logprobs(logits.bfloat16(), labels).dtype == torch.float32


def test_sft_is_the_mean_over_the_tokens_of_the_step():
    short, long = group(lengths=(5,), scores=(1.0,), target=0), group(lengths=(11,), scores=(1.0,), target=0)
    totals = Totals.of([short, long])
    assert (totals.examples, totals.target_tokens) == (2, 12)
    loss = sum(SftObjective()(torch.tensor([s]), g, totals)[0] for s, g in ((-3.0, short), (-9.0, long)))
    assert loss.item() == pytest.approx(1.0)


def test_length_norm_changes_the_ranking_but_not_the_likelihood():
    # Response lengths 2 and 4, sequence lengths 4 and 6.
    sums = torch.tensor([-2.0, -6.0], dtype=torch.float64)
    totals = Totals(1, 4)
    for norm, p in (("response", [-1.0, -1.5]), ("sequence", [-0.5, -1.0])):
        loss, parts = objective(length_norm=norm)(sums, group(), totals)
        assert parts["ranking_loss"].item() == pytest.approx(rank(p, [0.0, 1.0]))
        assert parts["target_nll"].item() == pytest.approx(1.5)
        assert loss.item() == pytest.approx(rank(p, [0.0, 1.0]) + 1.5)


def test_sum_product_and_weights():
    sums = torch.tensor([-2.0, -6.0], dtype=torch.float64)
    r = rank([-1.0, -1.5], [0.0, 1.0])
    totals = Totals(2, 8)

    def loss(target=1, **options):
        return objective(**options)(sums, group(target=target), totals)[0].item() * totals.examples

    assert loss(compare_weight=4.0, mle_weight=0.5) == pytest.approx(4 * r + 0.5 * 1.5)
    assert loss(combine="product", compare_weight=2.0) == pytest.approx((2 * r + 1) * 1.5)
    assert loss(compare_weight=0.0) == pytest.approx(1.5)
    # Without a target only the ranking is left, also of a product.
    assert loss(target=None, combine="product", compare_weight=2.0) == pytest.approx(2 * r)
