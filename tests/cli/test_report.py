"""`iter report`: where the file goes, and what is said when there is none."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from itercli.cli.main import main
from itercli.engine.machine import machine
from tests.web.bench import make_run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two failed runs."""
    root = tmp_path_factory.mktemp("report")
    for name in ("first", "second"):
        make_run(root / "runs", f"trouble of the {name}", name)
    return root


@pytest.fixture
def folder(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(made)
    return made


def test_a_run_has_its_report_in_its_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "first"]) == 0
    path = Path(capsys.readouterr().out.strip())
    assert path.resolve() == folder / "runs" / "first" / "report.html"
    page = path.read_text()
    assert page.startswith("<!doctype html>")
    assert "trouble of the first" in page
    assert "trouble of the second" not in page


def test_several_runs_and_a_file_of_ones_own(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "first", "second", "--to", "out/both.html", "--samples", "2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["schema"], told["runs"]) == ("itercli.report/1", ["first", "second"])
    page = (folder / told["path"]).read_text()
    assert told["size"] == len(page.encode())
    assert "trouble of the second" in page
    assert "iter resume second" in page
    assert "Up to 2 rows of each stage" in page
    assert "note" in page.split("What differs")[1].split("</table>")[0]


def test_what_is_wrong_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "frist"]) == 1
    assert "Did you mean first?" in capsys.readouterr().err
    assert main(["report", "first", "--to", "runs"]) == 2
    assert "is a folder" in capsys.readouterr().err
    assert main(["report", "first", "fir"]) == 2
    assert "named twice" in capsys.readouterr().err


@pytest.mark.parametrize("package", ["jinja2", "vl_convert"])
def test_what_is_not_installed_is_named(folder: Path, package: str) -> None:
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from itercli.cli.main import main\n"
        "sys.exit(main(['report', 'first', '--to', 'none.html']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "pip install 'itercli[report]'" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "none.html").exists()


def test_a_run_notes_its_machine() -> None:
    found = machine()
    assert found["cores"] >= 1
    assert found["memory"] > 2**28
    assert all(isinstance(text, str) and text for text in (found["system"], found["cpu"], *found["gpus"]))
