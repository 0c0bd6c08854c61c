"""Options of `dpo` and the doubt and weight that it takes from a pair."""

import subprocess
import sys
from typing import get_args

import pytest
from pydantic import ValidationError

from itercli import registry
from itercli.records import Message, PreferencePair
from itercli.training.preference import BATCHWISE, SMOOTHED, Dpo, Loss


def pair(**fields):
    return PreferencePair(
        prompt_id="p", messages=[Message(role="user", content="?")], chosen="a", rejected="b", **fields
    )


def test_registered_and_light():
    assert registry.find("method", "dpo") is Dpo
    code = (
        "import sys, itercli.training.preference\n"
        "heavy = {'torch', 'transformers', 'peft', 'trl', 'datasets'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_losses_are_those_of_the_installed_trl():
    """TRL lists its names in the message about an unknown one."""
    from trl import DPOConfig

    listed = DPOConfig.__dataclass_fields__["loss_type"].metadata["help"]
    named = set(listed.split("are: ")[1].split(". If")[0].replace("`", "").replace("'", "").split(", "))
    assert named == set(get_args(Loss))
    assert named >= SMOOTHED | BATCHWISE


def test_label_smoothing_and_alpha_are_independent_flips():
    assert Dpo().doubt(pair()) == 0
    assert Dpo().doubt(pair(alpha=0.3)) == pytest.approx(0.3)
    assert Dpo(label_smoothing=0.1).doubt(pair()) == pytest.approx(0.1)
    # Wrong if exactly one of the two flips: 0.3 * 0.9 + 0.7 * 0.1.
    assert Dpo(label_smoothing=0.1).doubt(pair(alpha=0.3)) == pytest.approx(0.34)
    assert Dpo(use_alpha=False).doubt(pair(alpha=0.3)) == 0


def test_alpha_and_weights_that_a_loss_cannot_take():
    with pytest.raises(ValueError, match="use_alpha: false"):
        Dpo(loss="ipo").doubt(pair(alpha=0.1))
    assert Dpo(loss="ipo", use_alpha=False).doubt(pair(alpha=0.1)) == 0
    with pytest.raises(ValueError, match="probability"):
        Dpo().doubt(pair(alpha=1.5))
    assert Dpo(loss="ipo").weight(pair(weight=2.0)) == 2
    assert Dpo(use_weight=False).weight(pair(weight=2.0)) == 1
    with pytest.raises(ValueError, match="use_weight: false"):
        Dpo(loss="aot").weight(pair(weight=2.0))
    with pytest.raises(ValueError, match="0 or more"):
        Dpo().weight(pair(weight=-1.0))


def test_label_smoothing_that_trl_would_ignore_is_refused():
    with pytest.raises(ValidationError, match="takes no label_smoothing"):
        Dpo(loss="hinge", label_smoothing=0.1)
    with pytest.raises(ValidationError, match=r"recommends 0\.001"):
        Dpo(loss="exo_pair")


def test_precomputing_is_not_part_of_the_key():
    assert Dpo(precompute_reference=False).key_params() == Dpo().key_params()
    assert Dpo(beta=0.2).key_params() != Dpo().key_params()
