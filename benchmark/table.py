"""Figures in rows and columns, for a person at a terminal and for a pipe."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table


def show(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A ruled table on a terminal; aligned plain columns in a pipe."""
    texts = [["-" if value is None else str(value) for value in row] for row in rows]
    if sys.stdout.isatty():
        table = Table(*header, title=title, title_justify="left")
        for row in texts:
            table.add_row(*row)
        Console().print(table)
        return
    widths = [max(len(row[column]) for row in [list(header), *texts]) for column in range(len(header))]
    print(title)
    for line in [list(header), *texts]:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
    print()


def number(value: float | None, form: str) -> str:
    """A figure in a format, or a dash where there is none."""
    return "-" if value is None or math.isnan(value) else format(value, form)
