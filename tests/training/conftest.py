"""Start models for tests of training on pairs."""

import pytest

from itercli.training.preference import Dpo
from tests.training.dpo_bench import LORA, PAIRS, dpo_job
from tests.training.tiny import tiny_ref


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_ref(tmp_path_factory.mktemp("model") / "base")


@pytest.fixture(scope="module")
def grown(base, tmp_path_factory):
    """A policy that was trained once: the base with an adapter that is not zero."""
    job = dpo_job(tmp_path_factory.mktemp("grown"), base, PAIRS, **LORA, epochs=2, lr=1e-2)
    Dpo().train(job)
    return base.model_copy(
        update={"adapter": str(job.out / "adapter"), "version": "policy@1", "digest": "grown"}
    )
