"""`iter export`: what is chosen, what is written, and that it answers as it did in the run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from itercli.cli.main import main
from itercli.handover.folder import without_paths
from itercli.handover.versions import HandoverError, choose
from itercli.training.models import load_model
from tests.handover.made import MadeRun, greedy

Export = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeRun:
    """Adapters in iterations 1 and 2, all weights in 3; the first is the best."""
    run = MadeRun(tmp_path_factory.mktemp("handover") / "runs")
    run.measured(0, 0.2)
    for iteration, score in ((1, 0.9), (2, 0.4), (3, 0.5)):
        (run.weights if iteration == 3 else run.adapter)(iteration)
        run.measured(iteration, score)
    return run


@pytest.fixture
def export(made: MadeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Export:
    """Runs the command; gives its JSON, or what it says on failure as `error`."""

    def call(*args: str, to: str | Path = "out", code: int = 0) -> dict[str, Any]:
        target = to if isinstance(to, str) and to.startswith("hub:") else str(tmp_path / to)
        given = ["export", "made", "--runs", str(made.run.root), "--to", target, "--json", *args]
        assert main(given) == code
        said = capsys.readouterr()
        return json.loads(said.out) if code == 0 else {"error": said.err}

    return call


def in_run(made: MadeRun, iteration: str) -> list[int]:
    """The greedy answer of the model in the store."""
    import torch

    ref = choose(made.run, iteration=iteration).ref
    return greedy(load_model(ref, dtype=torch.float32), AutoTokenizer.from_pretrained(ref.base))


def load(folder: Path, **kwargs: Any) -> tuple[Any, Any]:
    import torch

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **kwargs)
    return model, AutoTokenizer.from_pretrained(folder, **kwargs)


def test_best_version_by_default_as_an_adapter(made: MadeRun, export: Export, tmp_path: Path) -> None:
    from peft import PeftModel

    done = export()
    assert done["schema"] == "itercli.export/1"
    assert (done["model"]["version"], done["model"]["form"]) == ("policy@1", "adapter")
    assert "the best by the headline" in done["what"]
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "base"
    assert any("--base ORG/NAME" in w for w in done["warnings"])
    base, _ = load(made.base)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    answer = greedy(PeftModel.from_pretrained(base, tmp_path / "out"), tokenizer)
    assert answer == in_run(made, "1")
    assert answer != in_run(made, "0")


def test_damaged_weights_are_not_handed_over(made: MadeRun, export: Export) -> None:
    version = choose(made.run, iteration="2")
    assert version.ref.adapter is not None
    weights = Path(version.ref.adapter) / "adapter_model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    try:
        said = export("--iteration", "2", code=1)["error"]
    finally:
        weights.write_bytes(data)
    assert "policy@2 of made is damaged" in said
    assert "adapter_model.safetensors does not match its checksum" in said


def test_base_that_is_told_stands_in_config_and_card(export: Export, tmp_path: Path) -> None:
    done = export("--base", "org/start")
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "org/start"
    front = yaml.safe_load((tmp_path / "out" / "README.md").read_text().split("---\n")[1])
    assert front["base_model"] == "org/start"
    assert front["base_model_relation"] == "adapter"
    assert front["library_name"] == "peft"
    assert not any("--base" in w for w in done["warnings"])


@pytest.mark.parametrize(("iteration", "form"), [("2", "merged"), ("last", "full"), ("0", "full")])
def test_whole_models_answer_as_in_the_run(
    iteration: str, form: str, made: MadeRun, export: Export, tmp_path: Path
) -> None:
    done = export("--iteration", iteration, "--merge", "--gguf")
    assert done["model"]["form"] == form
    assert greedy(*load(tmp_path / "out")) == in_run(made, iteration)
    assert greedy(*load(tmp_path / "out", gguf_file="model.gguf")) == in_run(made, iteration)
    template = AutoTokenizer.from_pretrained(made.base).chat_template
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template == template
    assert json.loads((tmp_path / "out" / "generation_config.json").read_text())["eos_token_id"] == 2
    assert any("start model itself" in w for w in done["warnings"]) == (iteration == "0")


def test_card_has_what_a_reader_needs_and_no_path_of_this_machine(
    made: MadeRun, export: Export, tmp_path: Path
) -> None:
    export("--iteration", "2")
    card = (tmp_path / "out" / "README.md").read_text()
    for part in (
        "# made: policy@2", "| evaluate.score | 0.200 (.10-.30) | 0.900 (.80-1.00) |",
        "**policy@1** trained from policy@0", "- torch ", "PeftModel.from_pretrained(base, \".\")",
        "description: a loop",
    ):  # fmt: skip
        assert part in card
    assert "policy@3" not in card
    for path in (tmp_path / "out").rglob("*"):
        if path.suffix in (".json", ".md"):
            assert str(made.base.parent) not in path.read_text()


def test_paths_are_cut_and_addresses_are_not() -> None:
    text = "see https://a.org/b/c and arxiv.org/abs/1 but model=/home/me/m/x or '~/y/z' n/a"
    assert without_paths(text) == ("see https://a.org/b/c and arxiv.org/abs/1 but model=.../x or '.../z' n/a")


def test_a_folder_that_is_there_is_not_touched_unless_forced(export: Export, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    assert "--force" in export(code=1)["error"]
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["mine"]
    assert "no folder that `iter export` made" in export("--force", code=1)["error"]
    (tmp_path / "out" / "mine").unlink()
    assert export() == export("--force")
    assert [p.name for p in tmp_path.iterdir()] == ["out"]  # no scratch folder is left


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--iteration", "7"], "0 to 3"),
        (["--iteration", "bset"], "best, last or 0 to 3"),
        (["--role", "polcy"], "Did you mean policy?"),
        (["--gguf"], "add --merge"),
        (["--dataset", "evaluate"], "makes metrics, not rows"),
    ],
)
def test_refused(args: list[str], says: str, export: Export, tmp_path: Path) -> None:
    assert says in export(*args, code=1)["error"]
    assert not list(tmp_path.iterdir())


def test_without_a_headline_it_is_the_last_version(tmp_path: Path) -> None:
    made = MadeRun(tmp_path / "runs", headline=None)
    made.adapter(1)
    version = choose(made.run)
    assert (version.label, version.why) == ("policy@1", "the last one")


def test_of_several_trained_roles_it_is_the_one_that_the_headline_measures(tmp_path: Path) -> None:
    made = MadeRun(tmp_path / "runs", model=False)
    made.info["roles"]["extender"] = made.info["roles"]["policy"]
    made.measured(0, 0.5)
    for role in ("policy", "extender"):
        made.stage(f"iteration-01/train_{role}", "model", models={"start": f"{role}@0"})
    assert choose(made.run).label == "policy@0"
    made.run.save({**made.info, "headline": None})
    with pytest.raises(HandoverError, match="--role: policy, extender"):
        choose(made.run)


def test_another_architecture_as_gguf_names_the_converter(tmp_path: Path) -> None:
    from itercli.handover.gguf import check_gguf

    (tmp_path / "config.json").write_text('{"architectures": ["Qwen3ForCausalLM"]}')
    with pytest.raises(HandoverError, match=r"Qwen3ForCausalLM.*convert_hf_to_gguf.py"):
        check_gguf(tmp_path)


def test_upload_is_one_commit_to_a_private_repository(
    export: Export, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import huggingface_hub

    calls: list[tuple[str, dict[str, Any]]] = []

    class Api:
        def create_repo(self, repo: str, **kwargs: Any) -> None:
            calls.append((repo, kwargs))

        def upload_folder(self, **kwargs: Any) -> str:
            calls.append(
                ("upload", kwargs | {"names": {p.name for p in Path(kwargs["folder_path"]).iterdir()}})
            )
            return "https://hub/commit/1"

    monkeypatch.chdir(tmp_path)
    for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    assert "hf auth login" in export(to="hub:org/mine", code=1)["error"]
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "token")
    done = export(to="hub:org/mine")
    assert done["hub"] == "https://hub/commit/1"
    (repo, made), (_, sent) = calls
    assert (repo, made["private"], made["repo_type"]) == ("org/mine", True, "model")
    assert {"README.md", "adapter_model.safetensors"} <= sent["names"]
    assert "hub:ORG/NAME" in export(to="hub:mine", code=1)["error"]
