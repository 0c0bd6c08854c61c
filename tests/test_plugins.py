"""Plug-ins: their key covers what they import, and what runs is what was hashed."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from itercli import plugins, registry
from itercli.ledger import Changed
from itercli.plugins import Code
from itercli.recipe.errors import RecipeError
from itercli.recipe.schema import check

SCORER = """
{imports}
from itercli.registry import register
from itercli.verifiers.base import Scorer

@register("scorer", "covered")
class Covered(Scorer):
    def open(self):
        {inside}
        return {value}
"""


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing of a test stays in Python or in the registry."""
    registry.load_builtin()
    modules, components = set(sys.modules), dict(registry._components)
    finder = plugins._Finder()
    monkeypatch.setattr(plugins, "_finder", finder)
    yield
    if finder in sys.meta_path:
        sys.meta_path.remove(finder)
    for name in set(sys.modules) - modules:
        if name.startswith(plugins.PREFIX) or isinstance(
            getattr(sys.modules[name], "__loader__", None), plugins._Loader
        ):
            del sys.modules[name]
    registry._components.clear()
    registry._components.update(components)


def scorer(folder: Path, imports: str = "", value: str = "0", inside: str = "pass") -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    path = folder / "covered_scorer.py"
    path.write_text(SCORER.format(imports=imports, value=value, inside=inside))
    return path


def value() -> Any:
    cls = registry.find("scorer", "covered")
    assert cls is not None
    return cls().open()  # type: ignore[attr-defined]


def ordered(code: Code) -> Code:
    """As a worker is told."""
    return Code.ordered(json.loads(json.dumps(code.order())))


def forget() -> None:
    """As in a fresh process."""
    for name, module in list(sys.modules.items()):
        if isinstance(getattr(module, "__loader__", None), plugins._Loader):
            del sys.modules[name]
    plugins._finder.places.clear()


def test_a_plugin_alone_has_the_digest_that_it_always_had(tmp_path: Path) -> None:
    path = scorer(tmp_path)
    code = registry.load_plugin(path)
    assert code.digest == plugins._sha256(path.read_bytes())[:16]
    assert registry.find("scorer", "covered")().key_params()["code"] == code.digest  # type: ignore[misc]


@pytest.mark.parametrize(
    ("imports", "inside", "files", "edited"),
    [
        ("import helper", "pass", {"helper.py": "V = 1"}, "helper.py"),
        ("from helper import V", "pass", {"helper.py": "V = 1"}, "helper.py"),
        ("", "import helper", {"helper.py": "V = 1"}, "helper.py"),
        ("import helper", "pass", {"helper.py": "from deep import V", "deep.py": "V = 1"}, "deep.py"),
        (
            "from pack import part as helper",
            "pass",
            {"pack/__init__.py": "", "pack/part.py": "from .more import V", "pack/more.py": "V = 1"},
            "pack/more.py",
        ),
        (
            "import pack.part as helper",
            "pass",
            {"pack/__init__.py": "W = 1", "pack/part.py": "from . import W as V"},
            "pack/__init__.py",
        ),
        ("import bare.part as helper", "pass", {"bare/part.py": "V = 1"}, "bare/part.py"),
        (
            "import importlib\nhelper = importlib.import_module('hel' + 'per')",
            "pass",
            {"helper.py": "V = 1"},
            "helper.py",
        ),
    ],
)
def test_a_module_that_a_plugin_imports_is_in_the_key(
    imports: str, inside: str, files: dict[str, str], edited: str, tmp_path: Path
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    path = scorer(tmp_path, imports, "V" if imports.endswith("import V") else "helper.V", inside)
    code = registry.load_plugin(path)
    assert value() == 1
    assert str(tmp_path / edited) in {place for place, _ in code.modules.values()}

    # Same length and same times: what Python keeps of a module is not taken for it.
    stat = (tmp_path / edited).stat()
    (tmp_path / edited).write_text((tmp_path / edited).read_text().replace("= 1", "= 2"))
    os.utime(tmp_path / edited, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(Changed, match=f"{Path(edited).name}, which plug-in covered_scorer.py imports"):
        plugins.load(path, Code(code.path, code.sha256, {**code.modules, "other": (str(path), "")}))

    again = registry.load_plugin(path)
    assert again.digest != code.digest
    assert registry.find("scorer", "covered")().key_params()["code"] == again.digest  # type: ignore[misc]
    assert value() == 2


def test_a_worker_runs_what_was_planned(tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("V = 1")
    path = scorer(tmp_path, "import helper", "helper.V")
    code = registry.load_plugin(path)
    forget()
    assert registry.load_plugin(path, ordered(code)) == code
    assert value() == 1
    # It is in memory: what becomes of the files is of no account any more.
    path.unlink()
    (tmp_path / "helper.py").unlink()
    assert registry.load_plugin(path, ordered(code)) == code


@pytest.mark.parametrize("edited", ["covered_scorer.py", "helper.py"])
def test_a_worker_refuses_what_was_edited_since(edited: str, tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("V = 1")
    path = scorer(tmp_path, "import helper", "helper.V")
    code = ordered(registry.load_plugin(path))
    forget()
    (tmp_path / edited).write_text((tmp_path / edited).read_text() + "# edited\n")
    with pytest.raises(Changed, match=rf"{edited}.* edited since this run was planned; nothing is stored"):
        registry.load_plugin(path, code)


def test_a_worker_refuses_what_the_key_could_not_know_of(tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("V = 1")
    hidden = "import importlib; return importlib.import_module('hel' + 'per').V"
    path = scorer(tmp_path, inside=hidden)
    code = ordered(registry.load_plugin(path))
    forget()
    registry.load_plugin(path, code)
    with pytest.raises(Changed, match="write `import helper` in the plug-in"):
        value()


def test_content_that_comes_back_is_that_content(tmp_path: Path) -> None:
    first = registry.load_plugin(scorer(tmp_path, value="1")).digest
    registry.load_plugin(scorer(tmp_path, value="2"))
    assert value() == 2
    assert registry.load_plugin(scorer(tmp_path, value="1")).digest == first
    assert value() == 1


def test_two_modules_of_one_name_are_refused(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "helper.py").write_text(f"V = '{folder}'")
    (tmp_path / "a" / "first.py").write_text("import helper")
    (tmp_path / "b" / "second.py").write_text("import helper")
    with pytest.raises(RecipeError, match=r"imports helper from .*b/helper.py, and first.py imports another"):
        check({"name": "x", "plugins": ["a/first.py", "b/second.py"]}, base=tmp_path)


def test_installed_packages_and_the_standard_library_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("V = 1")  # not what `import json` means
    path = scorer(tmp_path, "import json, pydantic, itercli.records")
    assert registry.load_plugin(path).modules == {}


def test_sources_of_an_installed_plugin_package_are_hashed(tmp_path: Path, monkeypatch: Any) -> None:
    package = tmp_path / "some_parts"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "inner" / "part.py").write_text("V = 1")
    monkeypatch.syspath_prepend(tmp_path)
    before = plugins.package_digest("some_parts.inner.part")
    assert before == plugins.package_digest("some_parts")
    (package / "inner" / "part.py").write_text("V = 2")
    assert plugins.package_digest("some_parts") != before
