"""Write the general data of the default Agent-R run: perfect games of TextCraft in other recipe books.

The books are made up, or the real one with all words exchanged, so no goal of any split is played
for. They are to tiny-textcraft what general chat is to a chat model: what it is not to forget.

    python scripts/play_textcraft_games.py
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import sys
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from build_textcraft_model import PLAIN, Recipe, games, real_book

from itercli.data.general import SHIPPED

BOOKS = Recipe(made_up=0.35, swapped=0.65)


def main() -> None:
    """Play, then write the file anew."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-n", type=int, default=1500, help="games")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=SHIPPED["textcraft-games"])
    args = parser.parse_args()
    played = islice(games(real_book(BOOKS), BOOKS, PLAIN, random.Random(args.seed)), args.n)
    lines = (json.dumps({"messages": [m.model_dump() for m in game.messages]}) + "\n" for game in played)
    # Without a time of writing, so that the same games make the same file.
    args.out.write_bytes(gzip.compress("".join(lines).encode(), mtime=0))


if __name__ == "__main__":
    main()
