"""Source `rtllm`: RTLLM's designs, read from a checkout as its authors publish it.

Lu et al. 2024, "RTLLM: An Open-Source Benchmark for Design RTL Generation with Large Language
Model" (hkust-zhiyao/RTLLM, MIT). v1.0 and v1.1 have a folder per design; v2.0 has them in groups.
A design's folder holds `design_description.txt`, `testbench.v`, the reference `verified_*.v`
(or another file that defines it) and data files that the bench reads. Nothing is shipped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from itercli.data.base import DataError, Source, hash_files, read_text
from itercli.records import Message, Prompt
from itercli.registry import register
from itercli.verifiers.verilog_text import KEYWORDS, code_tokens, modules, plain
from itercli.verifiers.verilog_units import declarations

DESCRIPTION, BENCH = "design_description.txt", "testbench.v"
_DATA = (".dat", ".txt", ".hex", ".mem", ".bin")
_MODULE_NAME = re.compile(r"module\s+name\s*:?\s*([A-Za-z_][\w$]*)", re.IGNORECASE)


@register("source", "rtllm")
class Rtllm(Source):
    """RTLLM's designs as prompts with their test benches.

    The prompt is the description alone, as its authors ask. An answer passes if the bench
    prints "Your Design Passed"; the authors look for "pass" anywhere, which the published
    benches print in no other line.

    Attributes:
        path: The repository's folder, one group's or one design's.
        ids: Only these designs.
        offset: Designs to skip, in the order of their names.
        limit: Designs to give, None for all.
    """

    VERSION: ClassVar[int] = 1

    path: Path = Field(json_schema_extra={"how": True})
    ids: list[str] | None = None
    offset: int = Field(0, ge=0)
    limit: int | None = Field(None, ge=1)

    def prompts(self) -> Iterator[Prompt]:
        stop = None if self.limit is None else self.offset + self.limit
        return (rtllm_prompt(folder) for folder in islice(self._designs(), self.offset, stop))

    def fingerprint(self) -> dict[str, str]:
        hashes: dict[str, str] = {}
        for folder in self._designs():
            hashes |= {f"{folder.name}/{name}": h for name, h in hash_files(_files(folder)).items()}
        return hashes

    def _designs(self) -> list[Path]:
        root = self.path.expanduser()
        if not root.is_dir():
            fix = f"Name a checkout of hkust-zhiyao/RTLLM with `path`; it is relative to {Path.cwd()}"
            raise DataError(root, None, "no such folder", fix)
        found = sorted(
            (p.parent for p in root.rglob(DESCRIPTION) if not _hidden(p.relative_to(root))),
            key=lambda folder: folder.name,
        )
        if not found:
            fix = "Name a checkout of hkust-zhiyao/RTLLM with `path`"
            raise DataError(root, None, f"no {DESCRIPTION} below it", fix)
        if self.ids is not None:
            missing = set(self.ids) - {folder.name for folder in found}
            if missing:
                raise DataError(root, None, f"no design {min(missing)!r}", "Correct `ids`")
            found = [folder for folder in found if folder.name in self.ids]
        return found


def _hidden(path: Path) -> bool:
    """Whether a path lies in folders with models' answers (`_chatgpt4`) or of tools (`.git`)."""
    return any(part.startswith(("_", ".")) for part in path.parts)


def _files(folder: Path) -> list[Path]:
    """All files of a design that `rtllm_prompt` reads."""
    reference = _reference_file(folder)
    return [folder / DESCRIPTION, folder / BENCH, *([reference] if reference else []), *_data_files(folder)]


def _data_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_file() and p.suffix in _DATA and p.name != DESCRIPTION)


def _reference_file(folder: Path) -> Path | None:
    found = sorted([*folder.glob("verified_*.v"), *folder.glob("verified_*.sv")])
    others = sorted(p for p in folder.glob("*.v") if p.name != BENCH and p not in found)
    return next(iter([*found, *others]), None)


def rtllm_prompt(folder: Path) -> Prompt:
    """The prompt of one design.

    Raises:
        DataError: A file is missing, or the bench does not say which module it tests.
    """
    text, bench = read_text(folder / DESCRIPTION), read_text(folder / BENCH)
    top = _tested(folder / BENCH, text, bench)
    file = _reference_file(folder)
    reference = _renamed(file, read_text(file), top) if file is not None else None
    files = {p.name: read_text(p) for p in _data_files(folder)}
    return Prompt(
        id=f"rtllm/{folder.name}",
        messages=[Message(role="user", content=text.strip("\n") + "\n")],
        reference=reference,
        meta={
            "suite": "rtllm", "task": folder.name, "bench": bench, "top": top, "harness": "rtllm",
            **({"files": files} if files else {}),
        },
    )  # fmt: skip


def _tested(path: Path, description: str, bench: str) -> str:
    """The module that the bench instantiates and does not define; the described one of several."""
    own = {m.name for m in modules(bench)}
    code = code_tokens(bench)
    found: list[str] = []
    for i, token in enumerate(code[:-1]):
        before = code[i - 1].text if i else ";"
        name = token.kind in ("name", "escaped") and token.text not in KEYWORDS
        after = code[i + 1].text == "#" or (
            code[i + 1].kind in ("name", "escaped") and code[i + 1].text not in KEYWORDS
        )
        if name and after and before in (";", "end", "endtask", "endfunction", "begin", ")"):
            found.append(plain(token))
    found = [name for name in dict.fromkeys(found) if name not in own]
    said = _MODULE_NAME.search(description)
    named = [n for n in (said.group(1) if said else "", path.parent.name) if n in found]
    if not found:
        raise DataError(path, None, "instantiates no module of others", "Restore the authors' file")
    return (named or found)[0]


def _renamed(path: Path, reference: str, top: str) -> str:
    """The reference under the name that the bench asks for (`verified_accu` -> `accu`)."""
    names = [d.name for d in declarations(reference) if d.end is not None]
    if top in names:
        return reference
    main = next((n for n in names if n in (f"verified_{top}", path.stem)), None)
    main = (
        main or next((n for n in names if n.startswith("verified_")), None) or (names[0] if names else None)
    )
    if main is None:
        raise DataError(path, None, "no complete module", "Restore the authors' file")
    return re.sub(rf"(?<![\w$]){re.escape(main)}(?![\w$])", top, reference)
