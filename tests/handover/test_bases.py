"""The licence and name of an exported model's base."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from itercli.handover.bases import base_of
from itercli.models.digest import folder_digest
from itercli.models.known import TINY_RTL


@pytest.mark.parametrize("adapter", ["", "+adapter:0123"])
def test_a_copy_of_a_shipped_model_keeps_its_name_and_licence(tmp_path: Path, adapter: str) -> None:
    copy = tmp_path / "anything"
    shutil.copytree(TINY_RTL, copy)
    (copy / "README.md").unlink()
    start = {"path": str(copy), "digest": folder_digest(copy) + adapter}
    base = base_of(SimpleNamespace(start=start), None)  # type: ignore[arg-type]
    assert (base.name, base.licence) == ("tiny-rtl", "apache-2.0")


def test_another_model_has_neither(tmp_path: Path) -> None:
    copy = tmp_path / "mine"
    shutil.copytree(TINY_RTL, copy)
    (copy / "README.md").unlink()
    (copy / "origin.json").unlink(missing_ok=True)
    (copy / "generation_config.json").write_text("{}")
    start = {"path": str(copy), "digest": folder_digest(copy)}
    base = base_of(SimpleNamespace(start=start), None)  # type: ignore[arg-type]
    assert (base.name, base.licence) == ("mine", "")
