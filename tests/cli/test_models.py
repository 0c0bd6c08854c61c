"""`iter models`: the listing, its JSON and the errors of pulls."""

from __future__ import annotations

import json

import pytest

from itercli.cli.main import main

COMMIT = "f" * 40


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    monkeypatch.setenv("ITER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_listing_says_what_is_here_and_how_to_get_the_rest(capsys):
    assert main(["models"]) == 0
    out = capsys.readouterr().out
    assert "tiny-rtl" in out
    assert "available" in out
    assert "iter models pull smollm2-135m" in out


def test_json_listing_with_hub_cache(capsys, tmp_path):
    folder = tmp_path / "hub" / "models--acme--llama"
    snapshot = folder / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (snapshot / "model.safetensors").write_bytes(b"x")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT)
    assert main(["models", "--json"]) == 0
    listing = json.loads(capsys.readouterr().out)
    assert listing["schema"] == "itercli.models/1"
    assert {m["name"] for m in listing["models"]} == {
        "tiny-rtl",
        "tiny-textcraft",
        "smollm2-135m",
        "minilm-l6",
    }
    assert set(listing["models"][0]) == {"name", "what", "size", "licence", "state", "path"}
    assert listing["hub"] == [{"name": "acme/llama", "commit": COMMIT, "path": str(snapshot)}]


def test_pull_of_a_shipped_model_is_no_work(capsys):
    assert main(["models", "pull", "tiny-rtl", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["source"] == "shipped"
    assert found["digest"].startswith("sha256:")


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (["models", "pull"], 2, "pull what?"),
        (["models", "pull", "tiny-rtx"], 1, "did you mean 'tiny-rtl'"),
        (["models", "pull", "acme/llama"], 1, "HF_HUB_OFFLINE"),
        (["models", "list", "tiny-rtl"], 2, "takes no name"),
    ],
)
def test_errors(capsys, argv, code, message):
    assert main(argv) == code
    assert message in capsys.readouterr().err
