"""Task ids that Agent-R published."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from itercli.data import published
from itercli.data.agentgym import AgentGymTasks
from itercli.data.published import agent_r, expanded
from itercli.data.scienceworld import ScienceWorldTasks
from itercli.recipe.tree import builtin_dir


def test_as_many_as_in_the_authors_files_and_their_licence_is_with_them() -> None:
    sizes = {(k, s): len(set(agent_r(k, s))) for k in ("webshop", "textcraft") for s in ("train", "test")}
    assert sizes == {
        ("webshop", "train"): 3930,
        ("webshop", "test"): 200,
        ("textcraft", "train"): 374,
        ("textcraft", "test"): 100,
    }
    assert len(set(agent_r("sciworld", "test"))) == 200
    assert agent_r("webshop", "test")[:2] == (5238, 912)
    for kind in ("webshop", "textcraft"):
        assert not set(agent_r(kind, "train")) & set(agent_r(kind, "test"))
    folder = published.AGENT_R.parent
    assert "Apache License" in (folder / "LICENSE").read_text()
    assert "bytedance/Agent-R" in (folder / "README.md").read_text()


def test_names_ranges_and_numbers() -> None:
    first = agent_r("webshop", "train")[:3]
    assert expanded("webshop", ["agent_r_train:0-2", 7, "3-4"]) == [*first, 7, 3, 4]
    by_name = AgentGymTasks(kind="webshop", ids="agent_r_test")  # type: ignore[arg-type]
    assert by_name.key_params() == AgentGymTasks(kind="webshop", ids=agent_r("webshop", "test")).key_params()
    items = list(ScienceWorldTasks(ids="agent_r_test").prompts())  # type: ignore[arg-type]
    assert len(items) == 200
    assert {item.meta["split"] for item in items} == {"test"}


@pytest.mark.parametrize(
    ("kind", "ids", "message"),
    [
        ("webshop", "agent_r_train:0-3930", "positions 0 to 3929"),
        ("webshop", "agent_r_train:9-3", "agent_r_train:3-9"),
        ("sciworld", "agent_r_train", "only agent_r_test"),
        ("webshop", "agent_r_dev", "integer"),
    ],
)
def test_what_is_not_there_is_an_error(kind: str, ids: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        AgentGymTasks(kind=kind, ids=[ids])  # type: ignore[arg-type, list-item]


def test_the_preset_searches_training_tasks_and_tests_on_others() -> None:
    text = Path(builtin_dir() / "data" / "agent_r_webshop.yaml").read_text()
    data = yaml.safe_load(text)
    ids = {s: expanded("webshop", data[s]["of"][0]["ids"]) for s in ("train", "dev", "eval")}
    assert set(ids["train"] + ids["dev"]) <= set(agent_r("webshop", "train"))
    assert set(ids["eval"]) == set(agent_r("webshop", "test"))
    assert not set(ids["train"]) & set(ids["dev"] + ids["eval"])
    assert (len(ids["train"]), max(ids["train"]) < 1000) == (300, True)  # their searches begin below 1,000
