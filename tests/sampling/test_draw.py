"""Counter-based uniforms and the draw itself."""

from __future__ import annotations

import torch

from itercli.sampling.draw import draw, penalized, splitmix, stream, uniforms


def test_splitmix_reference_values():
    """First outputs of SplitMix64 seeded with 1234567 (Vigna's reference implementation)."""
    gamma = -7046029254386353131
    states = torch.tensor([1234567], dtype=torch.int64) + gamma * torch.arange(1, 4)
    unsigned = [x % (1 << 64) for x in splitmix(states).tolist()]
    assert unsigned == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_uniforms_are_uniform_and_apart():
    streams = torch.tensor([stream(s) for s in range(400)])
    u = torch.stack([uniforms(streams, torch.full_like(streams, n)) for n in range(250)])
    assert 0 <= u.min() < u.max() < 1
    counts = torch.histc(u.float(), 50, 0, 1)
    chi2 = float(((counts - 2000) ** 2 / 2000).sum())
    assert chi2 < 95, "49 degrees of freedom"
    assert abs(float(torch.corrcoef(torch.stack([u[:, :-1].flatten(), u[:, 1:].flatten()]))[0, 1])) < 0.02
    assert abs(float(torch.corrcoef(torch.stack([u[:-1].flatten(), u[1:].flatten()]))[0, 1])) < 0.02
    assert len({stream(s) for s in (0, 1, 2**62, 2**63 - 1, -1)}) == 5


def _draws(logits, n, **options):
    u = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    rows = {name: torch.full((n,), value) for name, value in options.items()}
    rows["temperature"] = rows["temperature"].double()
    if "top_p" in rows:
        rows["top_p"] = rows["top_p"].double()
    tokens = draw(logits.expand(n, -1), u, **rows)
    return torch.bincount(tokens, minlength=logits.shape[-1]) / n


def test_draw_follows_the_distribution():
    torch.manual_seed(0)
    logits = torch.randn(50) * 2
    for temperature in (0.5, 1.0, 2.0):
        want = torch.softmax(logits.double() / temperature, -1)
        got = _draws(logits, 20_000, temperature=temperature)
        assert (got - want).abs().max() < 2e-4


def test_top_k_top_p_and_greedy():
    logits = torch.log(torch.tensor([0.4, 0.3, 0.15, 0.1, 0.05]))
    third = torch.tensor([4, 3, 0, 0, 0]) / 7
    assert torch.allclose(_draws(logits, 7000, temperature=1.0, top_k=2), third, atol=1e-3)
    assert torch.allclose(_draws(logits, 7000, temperature=1.0, top_p=0.6), third, atol=1e-3)
    assert torch.allclose(_draws(logits, 7000, temperature=1.0, top_p=0.4), torch.eye(5)[0])
    # top-p sees what top-k left: 0.4 of 0.7 is 0.57.
    assert torch.allclose(_draws(logits, 700, temperature=1.0, top_k=2, top_p=0.55), torch.eye(5)[0])
    assert torch.allclose(_draws(logits, 700, temperature=0.0), torch.eye(5)[0])
    assert torch.allclose(
        _draws(logits, 7000, temperature=1.0, top_k=100, top_p=1.0), logits.exp(), atol=1e-3
    )


def test_penalty_has_the_bits_of_transformers():
    from transformers import RepetitionPenaltyLogitsProcessor

    torch.manual_seed(0)
    logits, ids = torch.randn(4, 500), torch.randint(0, 500, (4, 60))
    seen = torch.zeros(4, 500, dtype=torch.bool).scatter_(1, ids, value=True)
    penalty = torch.tensor([1.1, 1.0, 3.0, 0.7])
    got = penalized(logits, seen, penalty)
    assert torch.equal(got[1], logits[1])
    for row in (0, 2, 3):
        want = RepetitionPenaltyLogitsProcessor(float(penalty[row]))(
            ids[row : row + 1], logits[row : row + 1]
        )
        assert torch.equal(got[row], want[0])
        assert not torch.equal(got[row], logits[row])


def test_rows_do_not_see_each_other():
    """A row among rows of other options draws what it draws alone, also past the nucleus shortcut."""
    torch.manual_seed(0)
    logits = torch.randn(6, 3000) * torch.tensor([[0.01], [3.0], [3.0], [3.0], [3.0], [3.0]])
    u = torch.rand(6, dtype=torch.float64)
    temperature = torch.tensor([1.0, 1.0, 0.0, 0.7, 1.3, 1.0], dtype=torch.float64)
    top_k = torch.tensor([0, 5, 0, 40, 0, 0])
    top_p = torch.tensor([0.99, 1.0, 0.5, 0.9, 0.3, 1.0], dtype=torch.float64)
    together = draw(logits, u, temperature, top_k, top_p)
    for i in range(6):
        s = slice(i, i + 1)
        k = top_k[s] if top_k[i] else None
        p = top_p[s] if top_p[i] < 1 else None
        assert draw(logits[s], u[s], temperature[s], k, p) == together[i]


def test_last_uniform_stays_on_a_possible_token():
    logits = torch.tensor([[0.0, 0.0, -torch.inf]])
    u = torch.tensor([1 - 2.0**-53], dtype=torch.float64)
    assert draw(logits, u, torch.ones(1, dtype=torch.float64)) == 1
