"""The README's commands, in a fresh shell with an empty environment, as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from itercli.cli.main import COMMANDS

README = (Path(__file__).parents[1] / "README.md").read_text()
ENTER = "source .venv/bin/activate"


def commands(section: str) -> list[str]:
    """The lines of a section's code block."""
    text = README.split(f"\n## {section}\n")[1].split("\n## ")[0]
    return [line.strip() for line in re.findall(r"^    (.*)$", text, re.MULTILINE)]


class Shell:
    """A folder with the environment that `make demo` leaves, and shells that know nothing else."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / ".venv").symlink_to(sys.prefix)

    def run(self, line: str, *, seconds: float = 1800) -> tuple[int, str]:
        """Exit code and output of a line; it gets SIGINT after `seconds`."""
        script = (
            f"{ENTER}\ntimeout --foreground --preserve-status -s INT {seconds} {line.partition('  #')[0]}"
        )
        clean = {"HOME": str(self.folder), "PATH": "/usr/local/bin:/usr/bin:/bin", "TERM": "dumb"}
        if threads := os.environ.get("OMP_NUM_THREADS"):  # tests share the cores
            clean["OMP_NUM_THREADS"] = threads
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-c", script],
            cwd=self.folder, env=clean, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        return done.returncode, done.stdout


def test_the_shell_is_told_of_iter_before_its_first_use() -> None:
    lines = commands("The first minutes")
    assert lines[0].startswith(ENTER)
    assert {line.split()[1] for line in lines[1:]} <= COMMANDS.keys()


@pytest.mark.slow
def test_first_minutes(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    _, *lines = commands("The first minutes")
    demo, *longer = [line for line in lines if line.startswith("iter run ")]
    served = [line for line in lines if line.startswith("iter ui")]
    assert demo.split()[:3] == ["iter", "run", "recipe=itertl"]
    assert len(longer) == 2
    assert len(served) == 1

    code, out = shell.run(demo)
    assert code == 0, out
    (name,) = re.findall(r"^  iter show (\S+)$", out, re.MULTILINE)
    code, out = shell.run(f"{demo.partition('  #')[0].strip()} iterations=2 --name other")  # reuses it all
    assert code == 0, out
    for line in lines:
        if line not in (demo, *longer, *served):
            code, out = shell.run(line.replace("RUN RUN", f"{name} other").replace("RUN", name))
            assert code == 0, f"{line}\n{out}"
    for line in longer:  # these take minutes: they have to begin well and to stop when asked
        code, out = shell.run(line, seconds=12)
        assert code in (0, 130), f"{line}\n{out}"
        assert "Traceback" not in out
    code, out = shell.run(served[0], seconds=5)
    assert "http://127.0.0.1:" in out
