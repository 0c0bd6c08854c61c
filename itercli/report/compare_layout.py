"""How `iter compare` lays out its tables: cleaned cells, titles, tags for runs, groups."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any

from itercli.report.text import clean

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

LONGEST = 40  # characters of an option's value


def tags(count: int) -> list[str]:
    """A, B ... Z, A1, B1 ..."""
    return [ascii_uppercase[i % 26] + (str(i // 26) if i >= 26 else "") for i in range(count)]


def title(console: Console, text: str, note: str) -> None:
    """Heading of a part, with what one should know of it."""
    from rich.text import Text

    console.print()
    console.print(Text.assemble((text, "bold"), (f"  {clean(note)}", "dim")))


def table(
    *columns: str, right: Sequence[str] = (), fold: Sequence[str] = (), widths: Sequence[int] = ()
) -> Table:
    """A table without lines; columns in `fold` take several lines where there is no room."""
    from rich.table import Table
    from rich.text import Text

    made = Table(header_style="bold", box=None, pad_edge=False)
    for n, name in enumerate(columns):
        made.add_column(
            Text(clean(name)),
            justify="right" if name in right else "left",
            no_wrap=name not in fold,
            overflow="fold",
            min_width=widths[n] if widths else None,
        )
    return made


def row(made: Table, *cells: Any) -> None:
    """Add a row; nothing in it is interpreted as markup."""
    from rich.text import Text

    made.add_row(*(cell if isinstance(cell, Text) else Text(clean(str(cell))) for cell in cells))


def groups(
    console: Console,
    columns: Sequence[str],
    rows: Mapping[str, Iterable[Sequence[Any]]],
    right: Sequence[str],
) -> None:
    """Rows under titles that are as long as they like, in columns that go through."""
    from rich.cells import cell_len

    known = {name: [[str(cell) for cell in cells] for cells in of] for name, of in rows.items()}
    lines = [list(columns), *(cells for of in known.values() for cells in of)]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    for n, (name, of) in enumerate(known.items()):
        if n == 0:
            console.print(table(*columns, right=right, widths=widths))
        made = table(*columns, right=right, widths=widths)
        made.show_header = False
        for cells in of:
            row(made, *cells)
        console.print(clean(name), style="bold", markup=False)
        console.print(made)


def option(value: Any) -> str:
    """The value of an option in a few characters."""
    if isinstance(value, dict):
        return f"{{{value.get('uses') or value.get('name') or len(value)} ...}}"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def listing(names: Sequence[str], most: int = 5) -> str:
    """Names, or the first of them and how many more there are."""
    shown = ", ".join(map(clean, names[:most]))
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
