"""The wheel works where there is no checkout: recipes, chat template and model are inside."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.e2e.conftest import TINY

pytestmark = pytest.mark.slow
CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of this checkout, built with what is installed."""
    if importlib.util.find_spec("hatchling") is None or importlib.util.find_spec("pip") is None:
        pytest.skip("building a wheel needs hatchling and pip: pip install hatchling")
    out = tmp_path_factory.mktemp("wheel")
    pip("wheel", str(CHECKOUT), "--no-deps", "--no-build-isolation", "--wheel-dir", str(out))
    (built,) = out.glob("*.whl")
    return built


def pip(*args: str, python: Path | str = sys.executable) -> None:
    """Run pip for an interpreter, without any index."""
    call = [sys.executable, "-m", "pip", "--python", str(python), *args]
    env = os.environ | {"PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(call, env=env, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_but_the_package_is_inside(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {t for t in tops if not t.endswith(".dist-info")} == {"itercli"}
    assert not [n for n in names if "__pycache__" in n or "/." in n or "/runs/" in n or "tests" in n]
    recipes = {str(p.relative_to(CHECKOUT / "recipes")) for p in (CHECKOUT / "recipes").rglob("*.yaml")}
    prefix = "itercli/_recipes/"
    assert {n.removeprefix(prefix) for n in names if n.startswith(prefix)} == recipes
    code = {
        str(p.relative_to(CHECKOUT))
        for p in (CHECKOUT / "itercli").rglob("*")
        if p.is_file() and "__pycache__" not in p.parts
    }
    assert {n for n in names if n.startswith("itercli/") and not n.startswith(prefix)} == code
    assert wheel.stat().st_size < 10 * 2**20


def test_installed_wheel_runs_the_loop(wheel: Path, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    (site,) = venv.glob("lib/python*/site-packages")
    # The big dependencies come from here. Files named .pth over there, an editable
    # installation's too, have no effect through this one.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip("install", "--no-deps", str(wheel), python=venv / "bin" / "python")
    empty = tmp_path / "empty"
    empty.mkdir()
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}

    def run(*call: str) -> str:
        done = subprocess.run(call, cwd=empty, env=env, text=True, capture_output=True, timeout=600)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    python, iter_ = str(venv / "bin" / "python"), str(venv / "bin" / "iter")
    where = run(python, "-c", "import itercli; print(itercli.__file__)").strip()
    assert Path(where).is_relative_to(site)
    assert "itertl_mle" in run(iter_, "recipes")
    out = run(iter_, "run", *TINY, "iterations=1", "sampler=transformers")
    assert "evaluate" in out
    assert "stages run" in out
    assert "policy@1" in run(iter_, "show")
    assert [p.name for p in empty.iterdir()] == ["runs"]
