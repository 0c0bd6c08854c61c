"""Where an export may go, and what `--force` replaces."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from itercli.handover import folder as module
from itercli.handover.folder import MARKER, new_folder
from itercli.handover.versions import HandoverError


def export(target: Path, root: Path, text: str = "new", *, force: bool = True) -> None:
    with new_folder(target, root=root, force=force) as scratch:
        (scratch / "data").mkdir()
        (scratch / "data" / "rows").write_text(text)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of runs beside the current folder, inside a home folder."""
    home = tmp_path / "home"
    (home / "project").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home / "project")
    runs = home / "runs"
    (runs / ".store" / "model").mkdir(parents=True)
    (runs / "one").mkdir()
    (runs / "one" / "run.json").write_text("{}")
    return runs


@pytest.mark.parametrize(
    "to",
    [".", "..", "/", "../runs", "../runs/.store", "../runs/.store/x", "../runs/one", "../runs/one/x"],
)
@pytest.mark.parametrize("force", [True, False])
def test_folders_that_hold_more_than_an_export_are_refused(root: Path, to: str, force: bool) -> None:
    with pytest.raises(HandoverError, match=r"name (a|another) folder"):
        export(Path(to), root, force=force)
    assert sorted(p.name for p in root.iterdir()) == [".store", "one"]


def test_force_replaces_an_earlier_export(root: Path) -> None:
    export(Path("out"), root, "old", force=False)
    with pytest.raises(HandoverError, match="there already; --force replaces it"):
        export(Path("out"), root, force=False)
    export(Path("out"), root)
    assert Path("out/data/rows").read_text() == "new"
    assert os.listdir() == ["out"]


@pytest.mark.parametrize("extra", ["mine.txt", "data/mine.txt"])
def test_force_deletes_nothing_that_an_export_did_not_write(root: Path, extra: str) -> None:
    export(Path("out"), root, "old")
    Path("out", extra).write_text("precious")
    with pytest.raises(HandoverError, match=r"mine\.txt was not made by `iter export`"):
        export(Path("out"), root)
    assert Path("out", extra).read_text() == "precious"
    assert Path("out/data/rows").read_text() == "old"


def test_force_replaces_no_folder_or_file_of_somebody_else(root: Path) -> None:
    Path("out").mkdir()
    Path("out/precious").write_text("")
    Path("file").write_text("precious")
    for name in ("out", "file"):
        with pytest.raises(
            HandoverError, match=f"no folder that `iter export` made \\(it has no {MARKER}\\)"
        ):
            export(Path(name), root)
    assert Path("file").read_text() == "precious"
    assert Path("out/precious").exists()


def test_a_link_stays_a_link(root: Path) -> None:
    Path("real").mkdir()
    Path("link").symlink_to("real")
    export(Path("link"), root)
    assert Path("link").is_symlink()
    assert Path("real/data/rows").read_text() == "new"


@pytest.mark.parametrize("exchange", [True, False])
def test_at_every_moment_one_of_the_two_is_there(
    root: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool
) -> None:
    if not exchange:
        monkeypatch.setattr(module, "_exchange", lambda one, other: False)
    export(Path("out"), root, "old")
    rename, remove = os.rename, shutil.rmtree
    for kill_at in range(6):
        left = kill_at

        def step(real, *args, **kwargs):  # type: ignore[no-untyped-def]
            nonlocal left
            if left == 0:
                raise KeyboardInterrupt
            left -= 1
            return real(*args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(os, "rename", lambda *a: step(rename, *a))
            patch.setattr(module.shutil, "rmtree", lambda *a, **k: step(remove, *a, **k))
            with suppress(KeyboardInterrupt):
                export(Path("out"), root)
        export(Path("next"), root)  # goes on elsewhere
        with new_folder(Path("out"), root=root, force=True):
            assert Path("out/data/rows").read_text() in ("old", "new")
        export(Path("out"), root, "old")
