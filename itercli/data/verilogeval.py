"""Source `verilogeval`: NVIDIA's VerilogEval, v1 and v2, read as its authors publish it.

v1 (branch release/1.0.0): one JSONL file of problems per suite and one of descriptions. v2
(branch main): a folder per suite with three or four files per problem. Neither is shipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from itercli.data.base import DataError, Source, hash_files, read_jsonl, string_field
from itercli.data.verilogeval_v2 import v2_files, v2_prompts
from itercli.records import Message, Prompt
from itercli.registry import register

Suite = Literal["auto", "machine", "human", "spec-to-rtl", "code-complete"]
V2_FOLDERS = {"spec-to-rtl": "dataset_spec-to-rtl", "code-complete": "dataset_code-complete-iccad2023"}
V1_FILES = {"machine": "VerilogEval_Machine.jsonl", "human": "VerilogEval_Human.jsonl"}


@register("source", "verilogeval")
class VerilogEval(Source):
    """VerilogEval's problems as prompts with their test benches.

    Attributes:
        path: The repository, its data folder, one suite's folder or one problem file.
        suite: Which suite, where `path` holds several.
        descriptions: The descriptions' file of v1; by default it is looked for beside the
            problems and in ../descriptions.
        description: v1's "detail" or "simple" description (Machine has the latter for 108).
        wrap: v2: ask as the authors' script does (system message, Question/Answer and
            [BEGIN]/[DONE], or the description as comments); else only the problem's text.
        offset: Problems to skip, in the authors' order.
        limit: Problems to give, None for all.
        ids: Only these task ids.
    """

    VERSION: ClassVar[int] = 2

    path: Path = Field(json_schema_extra={"how": True})
    suite: Suite = "auto"
    descriptions: Path | None = Field(None, json_schema_extra={"how": True})
    description: Literal["detail", "simple"] = "detail"
    wrap: bool = True
    offset: int = Field(0, ge=0)
    limit: int | None = Field(None, ge=1)
    ids: list[str] | None = None

    def prompts(self) -> Iterator[Prompt]:
        place, suite = self._locate()
        if suite in V2_FOLDERS:
            found = v2_prompts(place, suite, wrap=self.wrap)
        else:
            found = v1_prompts(place, self._description_file(place), self.description, suite)
        if self.ids is not None:
            found = self._chosen(list(found), place)
        return islice(found, self.offset, None if self.limit is None else self.offset + self.limit)

    def fingerprint(self) -> dict[str, str]:
        place, suite = self._locate()
        files = v2_files(place) if suite in V2_FOLDERS else [place, self._description_file(place)]
        return {"suite": suite, **hash_files(files)}

    def _chosen(self, prompts: list[Prompt], place: Path) -> Iterator[Prompt]:
        wanted = set(self.ids or ())
        missing = wanted - {p.meta["task"] for p in prompts}
        if missing:
            raise DataError(place, None, f"no task {min(missing)!r}", "Correct `ids`")
        return (p for p in prompts if p.meta["task"] in wanted)

    def _locate(self) -> tuple[Path, str]:
        """The problem file (v1) or folder (v2), and the suite."""
        path = self.path.expanduser()
        if not path.exists():
            fix = f"Check `path`; it is relative to {Path.cwd()}"
            raise DataError(path, None, "no such file or folder", fix)
        if path.is_file():
            named = next((s for s, name in V1_FILES.items() if name == path.name), "example")
            return path, named if self.suite == "auto" else self.suite
        found = {s: p for s, p in _suites(path).items() if self.suite in ("auto", s)}
        if not found:
            names = [*V1_FILES.values(), *V2_FOLDERS.values()]
            what = "no VerilogEval suite here" if self.suite == "auto" else f"no suite {self.suite!r} here"
            raise DataError(path, None, what, f"Expected one of {', '.join(names)}")
        if len(found) > 1:
            raise DataError(path, None, f"several suites: {', '.join(found)}", "Choose one with `suite`")
        suite, place = next(iter(found.items()))
        return place, suite

    def _description_file(self, problems: Path) -> Path:
        if self.descriptions is not None:
            return self.descriptions.expanduser()
        name = problems.name.replace("VerilogEval_", "VerilogDescription_")
        name = name.replace("ExampleEval", "ExampleDescriptions")
        places = [problems.parent / name, problems.parent.parent / "descriptions" / name]
        found = next((p for p in places if p.is_file() and p != problems), None)
        if found is None:
            fix = "Name the file of descriptions with `descriptions`"
            raise DataError(problems, None, f"no {name} beside it or in ../descriptions", fix)
        return found


def _suites(path: Path) -> dict[str, Path]:
    found = {}
    for suite, name in V1_FILES.items():
        for place in (path / name, path / "data" / name):
            if place.is_file():
                found[suite] = place
                break
    for suite, name in V2_FOLDERS.items():
        if path.name == name:
            found[suite] = path
        elif (path / name).is_dir():
            found[suite] = path / name
    if not found and any(path.glob("*_prompt.txt")):
        # A renamed v2 folder: only the code-complete suite has interface files.
        found["code-complete" if any(path.glob("*_ifc.txt")) else "spec-to-rtl"] = path
    return found


def v1_prompts(problems: Path, descriptions: Path, kind: str, suite: str) -> Iterator[Prompt]:
    """Prompts of v1 (its paper's section 3; RTLCoder's way to ask: description, newline, header).

    Raises:
        DataError: A file is malformed, or a problem has no description of this kind.
    """
    texts: dict[str, tuple[int, dict[str, Any]]] = {}
    for line, row in read_jsonl(descriptions):
        texts[string_field(descriptions, line, row, "task_id")] = (line, row)
    for line, row in read_jsonl(problems):
        task, header, solution, test = (
            string_field(problems, line, row, k) for k in ("task_id", "prompt", "canonical_solution", "test")
        )
        if task not in texts:
            what = f"no description of task {task!r}"
            raise DataError(descriptions, None, what, "Use the files of one release")
        at, described = texts[task]
        field = f"{kind}_description"
        if field not in described:
            raise DataError(descriptions, at, f"task {task!r} has no {field!r}", "Set `description: detail`")
        text = string_field(descriptions, at, described, field)
        yield Prompt(
            id=f"verilogeval/{task}",
            messages=[Message(role="user", content=f"{text}\n{header}")],
            reference=header + solution,
            meta={
                "suite": f"verilogeval-{suite}", "task": task, "header": header, "bench": test,
                "top": "top_module", "reference_name": "reference_module", "harness": "verilogeval-v1",
            },
        )  # fmt: skip
