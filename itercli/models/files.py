"""The files beside a model's weights: its tokenizer's and its code."""

from __future__ import annotations

import shutil
from fnmatch import fnmatch
from pathlib import Path

TOKENIZER = (
    "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "spiece.model",
    "sentencepiece.bpe.model", "tekken.json", "chat_template*", "additional_chat_templates",
)  # fmt: skip


def code_files(folder: Path) -> list[Path]:
    """The Python files that come with a model, which `trust_remote_code` lets it run."""
    return sorted(
        path
        for path in folder.rglob("*.py")
        if not any(part.startswith((".", "__pycache__")) for part in path.relative_to(folder).parts)
    )


def copy_tokenizer(source: Path, folder: Path) -> None:
    """Copy the files of a tokenizer as they are: saved anew, it might cut text otherwise."""
    for path in source.iterdir():
        if any(fnmatch(path.name, pattern) for pattern in TOKENIZER):
            if path.is_dir():
                shutil.copytree(path, folder / path.name, dirs_exist_ok=True)
            else:
                shutil.copyfile(path, folder / path.name)


def copy_code(source: Path, folder: Path) -> None:
    """Copy a model's own Python files."""
    for path in code_files(source):
        target = folder / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
