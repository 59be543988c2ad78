"""``python -m scripts.docs`` renews the generated pages; with ``--check`` it only names stale ones.

Exit code 1 with ``--check`` when something is stale.
"""

from __future__ import annotations

import sys
from pathlib import Path

from scripts.docs.pages import DOCS, pages, stale


def main(arguments: list[str]) -> int:
    """Write or check; say what was done."""
    names = stale(DOCS)
    if "--check" in arguments:
        sys.stdout.writelines(f"stale: docs/{name}\n" for name in names)
        return 1 if names else 0
    wanted = pages(DOCS)
    for name in names:
        path: Path = DOCS / name
        if name in wanted:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted[name], "utf-8")
        else:
            path.unlink()
    sys.stdout.writelines(f"renewed: docs/{name}\n" for name in names)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
