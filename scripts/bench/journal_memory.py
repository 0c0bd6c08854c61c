"""How much memory does it take to open a large journal, and to give its rows in another order?

Writes a journal of N rows of about S bytes, then opens it in a fresh process and prints the
growth of the peak resident memory over that of a process which only imports the same modules.

    python scripts/bench/journal_memory.py [--rows 1000000] [--size 4096] [--folder DIR]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from itercli.engine.checked import seal
from itercli.records import Trajectory

OPEN = """
import resource, sys, time
from pathlib import Path
from itercli.engine.journal import RowJournal
from itercli.records import Trajectory

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

print(f"imports: {peak():.0f} MiB resident", flush=True)
began = time.monotonic()
journal = RowJournal(Path(sys.argv[1]), Trajectory)
print(f"opened {len(journal.done)} rows in {time.monotonic() - began:.0f} s: {peak():.0f} MiB", flush=True)
if len(sys.argv) > 2:
    began = time.monotonic()
    rows = sum(1 for _ in journal.ordered(lambda row: (-row.seed, row.index)))
    print(f"{rows} rows in another order in {time.monotonic() - began:.0f} s: {peak():.0f} MiB", flush=True)
journal.close()
"""


def main() -> int:
    """Write, open, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows (1000000)")
    parser.add_argument("--size", type=int, default=4096, help="bytes of a row (4096)")
    parser.add_argument("--folder", type=Path, help="where the journal is written (the system's)")
    parser.add_argument("--order", action="store_true", help="read the rows in another order, too")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        path = Path(folder) / "journal.jsonl"
        row = Trajectory(
            prompt_id="PROMPT", index=0, seed=0, completion="", finish="stop", tokens=1, policy="policy@1"
        )
        empty = row.model_dump_json()
        text = "x" * max(args.size - len(empty), 0)
        began = time.monotonic()
        with open(path, "wb") as handle:
            for n in range(args.rows):
                line = empty.replace('"PROMPT"', f'"prompt-{n:07d}"').replace('"seed":0', f'"seed":{n}')
                handle.write(seal(line.replace('"completion":""', f'"completion":"{text}"').encode()))
        size = path.stat().st_size / 2**30
        print(f"wrote {args.rows} rows, {size:.2f} GiB, in {time.monotonic() - began:.0f} s", flush=True)
        return subprocess.call([sys.executable, "-c", OPEN, str(path), *["order"] * args.order])


if __name__ == "__main__":
    sys.exit(main())
