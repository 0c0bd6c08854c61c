"""A misspelt name is answered with the one that was probably meant, wherever names are typed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from itercli.cli.main import main
from itercli.engine.store import Store
from tests.engine.test_garbage import make, make_run

ITERTL = "plan recipe=itertl"
CASES = {
    "rnu": "iter run",
    "show itertl-abc132": "itertl-abc123",
    "samples itertl-abc132": "itertl-abc123",
    "resume itertl-abc132": "itertl-abc123",
    "export itertl-abc132": "itertl-abc123",
    "eval itertl-abc132 suite=stories": "itertl-abc123",
    "report itertl-abc132": "itertl-abc123",
    "compare itertl-abc132 itertl-abc123": "itertl-abc123",
    "sync itertl-abc132": "itertl-abc123",
    "sync itertl-abc123 --tracker wandbb": "wandb",
    "samples --stage scroe": "score",
    "export --dataset smaple": "sample",
    "eval model=tiny-rtl suite=storis": "stories",
    "samples --iteratoin 2": "--iteration",
    "run recipe=itertl --ofline": "--offline",
    "clean --dry-rnu": "--dry-run",
    "recipes shwo itertl": "show",
    "recipes show itrtl": "itertl",
    "recipes copy itrtl": "itertl",
    "models pul smollm2-135m": "pull",
    "models pull smolm2-135m": "smollm2-135m",
    "schema --stage smaple": "sample",
    "validate itrtl": "itertl",
    "plan itertl": "recipe=itertl",
    "plan recipe=itrtl": "itertl",
    "plan recipe=upo scale=papr": "paper",
    f"{ITERTL} trainer=lroa": "lora",
    f"{ITERTL} sampler=transformer": "transformers",
    f"{ITERTL} tracker=wandbb": "wandb",
    f"{ITERTL} data=rtl_task": "rtl_tasks",
    f"{ITERTL} model=smolm2-135m": "smollm2-135m",
    f"{ITERTL} itertions=2": "iterations",
    f"{ITERTL} loop.smaple.n=2": "stage sample",
    f"{ITERTL} loop.sample.temprature=2": "temperature",
    f"{ITERTL} loop.sample.role=polcy": "policy",
    f"{ITERTL} loop.score.of=smaple": "sample",
    f"{ITERTL} loop.score.scorer=functionl": "functional",
    f"{ITERTL} loop.build.selector=bset": "best",
    f"{ITERTL} loop.train.method=stf": "sft",
    f"{ITERTL} loop.train.init_from=previus": "previous",
    f"{ITERTL} 'data.train={{name: rtl_taks}}'": "rtl_tasks",
    f"{ITERTL} 'loop.evaluate.metrics=[pas@1]'": "pass@1",
    f"{ITERTL} headline=evalute.pass@1": "evaluate",
    f"{ITERTL} 'stop={{stage: evaluate, metric: pas@1}}'": "pass@1",
    "plan recipe=agent_r data.environment.name=textcrft": "textcraft",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one run."""
    path = tmp_path_factory.mktemp("names")
    store = Store(path / "runs" / ".store")
    nodes = {"iteration-01/sample": ("trajectories", "t1"), "iteration-01/score": ("scores", "s1")}
    for kind, key in nodes.values():
        make(store, kind, key)
    make_run(path / "runs", "itertl-abc123", nodes)
    return path


@pytest.mark.parametrize(("line", "meant"), CASES.items(), ids=CASES)
def test_nearest_name_is_given(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], line: str, meant: str
) -> None:
    monkeypatch.chdir(folder)
    try:
        code = main(shlex.split(line))
    except SystemExit as error:  # argparse
        code = error.code  # type: ignore[assignment]
    assert code in (1, 2)
    hints = re.findall(r"did you mean:? (.*)", capsys.readouterr().err, re.IGNORECASE)
    assert any(meant in hint for hint in hints), hints
