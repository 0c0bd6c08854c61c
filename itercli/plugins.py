"""Users' own code: plug-ins with the modules that they import, run as the bytes that were hashed.

A plug-in may import modules of the user's: files and packages beside it, on PYTHONPATH or installed
as editable. All that its import statements lead to, also those inside functions, is read once with
it and hashed together, and Python gets these bytes to run, whatever becomes of the files. Workers are
told the hashes and refuse other content. What no import statement names, as with
`importlib.import_module(text)`, is found when it is imported: by the planner it is hashed like the
rest, a worker refuses it.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import site
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from itercli.ledger import AGAIN, Changed

PREFIX = "itercli_plugin_"
PACKAGE = Path(__file__).parent


@dataclass(frozen=True)
class Code:
    """What a plug-in consists of.

    Attributes:
        path: The plug-in's file.
        sha256: Its hash.
        modules: Name of each module of the user's that it imports -> (file, hash).
    """

    path: Path
    sha256: str
    modules: dict[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """What enters the keys of stages that use it; of one without modules of its own, its hash."""
        if not self.modules:
            return self.sha256[:16]
        lines = [self.sha256, *(f"{name}\0{digest}" for name, (_, digest) in sorted(self.modules.items()))]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]

    @property
    def module(self) -> str:
        """Name under which it is imported: another one for each content."""
        return f"{PREFIX}{self.path.stem}_{self.digest}"

    def order(self) -> dict[str, Any]:
        """For a worker, as JSON."""
        return {"path": str(self.path), "sha256": self.sha256, "modules": self.modules}

    @classmethod
    def ordered(cls, order: Mapping[str, Any]) -> Code:
        """From `order`."""
        return cls(
            Path(order["path"]), order["sha256"], {n: tuple(found) for n, found in order["modules"].items()}
        )


def load(path: Path, expected: Code | None = None) -> tuple[Code, str]:
    """Import a plug-in.

    Args:
        expected: What it was when the run was planned; then nothing else is run.

    Returns:
        What it consists of, and the name that its module has in Python.

    Raises:
        Changed: It is not what was expected.
        Exception: Whatever its code raises.
    """
    path = path.resolve()
    if expected is not None and expected.module in sys.modules:
        return expected, sys.modules[expected.module].__name__
    source = path.read_bytes()
    if expected is not None:
        code, sources = expected, _expected_sources(expected, source)
    else:
        found = dict(_imports(path, source))
        sources = {name: raw for name, (_, raw) in found.items()}
        modules = {name: (str(place), _sha256(sources[name])) for name, (place, _) in found.items()}
        code = Code(path, _sha256(source), modules)
    if code.module in sys.modules:
        return code, sys.modules[code.module].__name__
    if expected is None:
        _forget()
    _finder.add(code, sources, strict=expected is not None)
    loader = _Loader(code.module, str(path), source)
    spec = importlib.util.spec_from_file_location(code.module, path, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[code.module] = module
    _finder.importing = {}
    try:
        loader.exec_module(module)
        if _finder.importing:  # by names that only running it tells
            del sys.modules[code.module]
            code = Code(path, code.sha256, code.modules | _finder.importing)
            sys.modules[code.module] = module
    except BaseException:
        sys.modules.pop(code.module, None)
        raise
    finally:
        _finder.importing = None
    return code, module.__name__


def clash(codes: list[Code]) -> str:
    """Why plug-ins of one recipe can't be used together, or an empty string."""
    places: dict[str, tuple[str, Code]] = {}
    for code in codes:
        for name, (place, _) in code.modules.items():
            other, first = places.setdefault(name, (place, code))
            if other != place:
                return (
                    f"imports {name} from {place}, and {first.path.name} imports another one from {other}: "
                    "Python knows one module of a name; rename one of them"
                )
    return ""


def package_digest(module: str) -> str:
    """Hash of the source files of an installed package."""
    spec = importlib.util.find_spec(module.partition(".")[0])
    places = [Path(p) for p in spec.submodule_search_locations or ()] if spec else []
    files = [(f.relative_to(place), f) for place in places for f in sorted(place.rglob("*.py"))]
    if spec and spec.origin and not places:
        files = [(Path(Path(spec.origin).name), Path(spec.origin))]
    lines = [f"{name}\0{_sha256(file.read_bytes())}" for name, file in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def _expected_sources(code: Code, source: bytes) -> dict[str, bytes]:
    if _sha256(source) != code.sha256:
        raise Changed(
            f"plug-in {code.path} was edited since this run was planned; nothing is stored. {AGAIN}"
        )
    sources = {}
    for name, (place, digest) in code.modules.items():
        try:
            raw = Path(place).read_bytes()
        except OSError as error:
            raise Changed(
                f"{place}, which plug-in {code.path.name} imports, can't be read ({error}). {AGAIN}"
            ) from error
        if _sha256(raw) != digest:
            raise Changed(
                f"{place}, which plug-in {code.path.name} imports, was edited since this run was planned; "
                f"nothing is stored. {AGAIN}"
            )
        sources[name] = raw
    return sources


# -- what a file imports -----------------------------------------------------------------


def _imports(path: Path, source: bytes) -> Iterator[tuple[str, tuple[Path, bytes]]]:
    """The user's own modules that a file leads to: name -> file and content."""
    seen: set[str] = set()
    due = [(source, "")]
    while due:
        text, package = due.pop()
        for name in _named(text, package):
            # A package is imported before what is in it.
            parts = name.split(".")
            for n in range(1, len(parts) + 1):
                part = ".".join(parts[:n])
                if part in seen:
                    continue
                seen.add(part)
                spec = _find(part, path.parent)
                if spec is None or spec.origin is None or not spec.has_location:
                    continue
                place = Path(spec.origin)
                raw = place.read_bytes()
                yield part, (place, raw)
                if place.suffix == ".py":
                    inside = part if spec.submodule_search_locations is not None else part.rpartition(".")[0]
                    due.append((raw, inside))


def _named(source: bytes, package: str) -> Iterator[str]:
    """Full names that import statements may mean; a name behind `from x import` can be a module, too."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return  # importing it says what is wrong
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                above = parts[: len(parts) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            if base:
                yield base
                yield from (f"{base}.{alias.name}" for alias in node.names if alias.name != "*")


def _find(name: str, folder: Path) -> ModuleSpec | None:
    """The spec of a module of the user's, without importing anything; None for others."""
    top, *rest = name.split(".")
    if top in sys.stdlib_module_names or top == PACKAGE.name:
        return None
    spec = PathFinder.find_spec(top, [str(folder), *sys.path])
    if spec is None:
        try:
            spec = importlib.util.find_spec(top)  # installed as editable
        except (ImportError, ValueError):
            return None
    at = top
    for part in rest:
        if spec is None or spec.submodule_search_locations is None:
            return None
        at = f"{at}.{part}"
        spec = PathFinder.find_spec(at, spec.submodule_search_locations)
    return spec if spec is not None and _own(spec) else None


def _own(spec: ModuleSpec) -> bool:
    """Whether a module is the user's, neither Python's nor that of an installed package."""
    places = [spec.origin] if spec.has_location and spec.origin else spec.submodule_search_locations or ()
    return any(not any(Path(place).resolve().is_relative_to(f) for f in _installed()) for place in places)


@cache
def _installed() -> tuple[Path, ...]:
    paths = sysconfig.get_paths()
    folders = {paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    folders |= {*site.getsitepackages(), site.getusersitepackages()}
    folders |= {p for p in sys.path if Path(p).name in ("site-packages", "dist-packages")}
    return (PACKAGE, *(Path(f).resolve() for f in folders))


# -- running exactly what was hashed -------------------------------------------------------


class _Loader(SourceFileLoader):
    """Runs given source as that of a file; no bytecode of another content comes in between."""

    def __init__(self, name: str, path: str, source: bytes) -> None:
        super().__init__(name, path)
        self.source = source

    def get_code(self, fullname: str) -> CodeType:
        return compile(self.source, self.path, "exec", dont_inherit=True)


class _Finder(MetaPathFinder):
    """Gives the modules of plug-ins their hashed content.

    Attributes:
        importing: While the planner runs a plug-in: modules of the user's that came up on the way.
    """

    def __init__(self) -> None:
        self.places: dict[str, tuple[str, bytes]] = {}
        self.folders: dict[Path, bool] = {}
        self.importing: dict[str, tuple[str, str]] | None = None
        self._by_file: dict[str, Path | None] = {}

    def add(self, code: Code, sources: Mapping[str, bytes], *, strict: bool) -> None:
        """Serve a plug-in's modules; `strict` refuses others that lie beside it."""
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)
        self.folders[code.path.parent] = strict
        self._by_file.clear()
        self.places |= {name: (place, sources[name]) for name, (place, _) in code.modules.items()}

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if fullname in self.places:
            return _spec(fullname, *self.places[fullname])
        folder = self._importer()
        if folder is None or fullname.partition(".")[0] in sys.stdlib_module_names:
            return None
        spec = PathFinder.find_spec(fullname, path or [str(folder), *sys.path])
        if spec is None or not _own(spec):
            return None
        if spec.origin is None or not spec.has_location:
            return spec  # a folder without __init__.py holds no code
        place = Path(spec.origin)
        if self.folders[folder]:
            raise Changed(
                f"{place} is imported only while the stage runs, by a name that no import statement has, so "
                f"no stage key covers it; write `import {fullname}` in the plug-in"
            )
        raw = place.read_bytes()
        if self.importing is not None:
            self.importing[fullname] = (str(place), _sha256(raw))
        self.places[fullname] = (str(place), raw)
        return _spec(fullname, str(place), raw)

    def _importer(self) -> Path | None:
        """The folder of the plug-in whose code is importing, or None: others are."""
        frame: FrameType | None = sys._getframe(2)
        while frame is not None:
            name = frame.f_code.co_filename
            if not name.startswith("<frozen") and not name.endswith("/importlib/__init__.py"):
                if name not in self._by_file:  # libraries import thousands of modules
                    installed = any(Path(name).is_relative_to(f) for f in _installed())
                    found = next((f for f in self.folders if Path(name).is_relative_to(f)), None)
                    self._by_file[name] = None if installed else found
                return self._by_file[name]
            frame = frame.f_back
        return None


def _spec(name: str, place: str, source: bytes) -> ModuleSpec | None:
    folder = [str(Path(place).parent)] if Path(place).name.startswith("__init__.") else None
    loader = _Loader(name, place, source) if place.endswith(".py") else None
    return importlib.util.spec_from_file_location(
        name, place, loader=loader, submodule_search_locations=folder
    )


def _forget() -> None:
    """Take the users' modules out of Python, so that a plug-in gets those that are there now.

    Plug-ins that were loaded before keep what they have imported.
    """
    for name, module in list(sys.modules.items()):
        if isinstance(getattr(module, "__loader__", None), _Loader) and not name.startswith(PREFIX):
            del sys.modules[name]
    _finder.places.clear()


_finder = _Finder()
