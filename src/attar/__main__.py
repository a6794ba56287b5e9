"""`python -m attar`, which torchrun starts in several processes: only the first prints."""

from __future__ import annotations

import io
import os
import sys
import time
from contextlib import redirect_stderr, redirect_stdout

from attar.cli import main

# All processes meet the same mistakes: the others wait so long with theirs that the first has said it.
WAIT_SECONDS = 2.0


def follow() -> None:
    """The command line of a process that is not the first: it is heard only if it fails alone."""
    said = io.StringIO()
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
        try:
            with redirect_stderr(said):
                main()
        except SystemExit as end:
            if end.code:
                time.sleep(WAIT_SECONDS)
                print(said.getvalue(), end="", file=sys.stderr)
            raise


if __name__ == "__main__":
    if "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("RANK", 0)):
        follow()
    else:
        main()
