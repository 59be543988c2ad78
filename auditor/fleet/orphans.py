"""Workers that end when whoever started them is gone, also after kill -9.

A killed driver closes its pipes, but its workers hold copies of each other's ends and would wait
for jobs until loky's idle time is over.
"""

from __future__ import annotations

import os
import threading
import time
from functools import cache

_EVERY = 0.3


@cache
def end_with(parent: int) -> None:
    """Watch `parent`, this process's own, from a thread; end at once where it is gone already."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_EVERY)
        os._exit(1)

    threading.Thread(target=watch, name="watch-driver", daemon=True).start()
