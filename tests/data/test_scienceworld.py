"""ScienceWorld's tasks: the package's split, and AgentGym's ids."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from pydantic import ValidationError

from itercli.data.scienceworld import ScienceWorldTasks, items


def tasks(**options: Any) -> list[tuple[str, int]]:
    prompts = ScienceWorldTasks(**options).prompts()
    return [(p.meta["task"]["task"], p.meta["task"]["variation"]) for p in prompts]


def test_published_counts() -> None:
    assert len(items()) == 7207
    sizes = Counter(item.name for item in items())
    assert (len(sizes), sizes["boil"], sizes["find-plant"], sizes["test-conductivity"]) == (30, 30, 300, 900)
    assert sum(item.agentgym is not None for item in items()) == 4339


def test_splits_do_not_overlap_and_miss_nothing() -> None:
    splits = [set(tasks(split=split)) for split in ("train", "dev", "test")]
    assert sum(map(len, splits)) == len(set.union(*splits)) == 7207


def test_agentgym_ids_run_through_the_tasks_in_order() -> None:
    numbered = [item for item in items() if item.agentgym is not None]
    assert [item.agentgym for item in numbered] == list(range(4339))
    assert not {"grow-plant", "measure-melting-point-unknown-substance"} & {i.name for i in numbered}
    # 1-1 to 1-4 have 30 variations each, then 2-1 has 540, and 2-2 is followed by 3-1.
    assert tasks(ids=[0, 29, 30, 120, 659, 660, 660 + 435, 660 + 436, 4338]) == [
        ("boil", 0), ("boil", 29), ("melt", 0), ("use-thermometer", 0), ("use-thermometer", 539),
        ("measure-melting-point-known-substance", 0), ("measure-melting-point-known-substance", 435),
        ("power-component", 0), ("identify-life-stages-2", 9),
    ]  # fmt: skip


def test_the_searched_tasks_of_agent_r() -> None:
    # Up to five variations of a task, without the first (spec agent_r, 2).
    some = ["boil", "find-plant", "identify-life-stages-2"]
    chosen = tasks(split="train", tasks=some, skip=1, per_task=5)
    assert Counter(name for name, _ in chosen) == {"boil": 5, "find-plant": 5, "identify-life-stages-2": 3}
    assert chosen[:5] == [("boil", n) for n in range(1, 6)]


def test_a_shuffle_keeps_the_set_and_its_seed_the_order() -> None:
    plain, mixed = tasks(tasks=["boil"]), tasks(tasks=["boil"], shuffle=1)
    assert sorted(mixed) == plain != mixed
    assert tasks(tasks=["boil"], shuffle=1, limit=3, offset=1) == mixed[1:4]


def test_rows_name_their_environment() -> None:
    (prompt,) = ScienceWorldTasks(split="test", tasks=["melt"], limit=1).prompts()
    assert prompt.id == "scienceworld/melt/21"
    assert prompt.messages[0].content.startswith("Matter: Changes of State (Melting)")
    assert prompt.meta == {
        "environment": "scienceworld", "task": {"task": "melt", "variation": 21},
        "split": "test", "agentgym": 51,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": ["boill"]}, "no task 'boill'; did you mean 'boil'"),
        ({"ids": [4339]}, "AgentGym's are 0 to 4338"),
        ({"ids": [1], "split": "test"}, "leave out split"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ScienceWorldTasks(**options)
