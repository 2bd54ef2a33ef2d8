"""Types of the commands' arguments, for argparse: what is wrong is said before anything is done."""

from __future__ import annotations

import argparse
from pathlib import Path

from ecoroute_mcp.sci import shown


def given_path(text: str) -> Path:
    """The path of a file or folder, which need not be there yet.

    Raises ArgumentTypeError for one that nothing can have, being too long, a loop of links, empty or with a NUL in it,
    that cannot be printed as UTF-8, or that cannot be looked at: every later question of what it is would fail."""
    if not text:
        raise argparse.ArgumentTypeError("the name is empty: name a file or folder")
    path = Path(text)
    if "\0" in text:
        raise argparse.ArgumentTypeError(f"{shown(text)!r}: holds a NUL, which no name can: name another")
    try:
        text.encode()
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{shown(text)!r}: {error.strerror}: name another") from error
    except UnicodeEncodeError as error:
        raise argparse.ArgumentTypeError(f"{shown(text)!r}: not a name in UTF-8: rename it") from error
    return path
