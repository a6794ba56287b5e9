"""`python -m attar`, which torchrun starts in several processes: only the first prints."""

from __future__ import annotations

import io
import os
import sys
import time
from contextlib import redirect_stderr, redirect_stdout

from attar.cli import main

# All processes meet the same mistakes: the others hold theirs back until the first has printed it and torchrun has
# ended them. On a busy machine their imports are seconds apart.
WAIT_SECONDS = 10.0


def follow() -> None:
    """The command line of a process that is not the first: it prints only if it fails alone."""
    message = io.StringIO()
    with open(os.devnull, "w", encoding="utf-8", errors="backslashreplace") as nowhere, redirect_stdout(nowhere):
        try:
            with redirect_stderr(message):
                main()
        except SystemExit as end:
            if end.code:
                time.sleep(WAIT_SECONDS)
                print(message.getvalue(), end="", file=sys.stderr)
            raise


if __name__ == "__main__":
    if "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("RANK", 0)):
        follow()
    else:
        main()
