"""Run every command of the README, word for word, on a fresh clone with an empty environment.

    python -m scripts.newcomer [--keep FOLDER] [--no-tests]

Blocks without a language are pasted into one shell, in their order; ``python`` blocks are run with
the clone's interpreter; other languages mark examples and alternatives. Nothing of the caller's
environment is passed on but PATH (system folders only), a language and pip's index settings. A
command may say that it found something (exit code 1 of `audit`, which is what the backdoored
example is for); anything else but 0 fails, and so does a traceback. Takes as long as installing
torch and the tests do.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_KEPT = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CONFIG_FILE", "SSL_CERT_FILE")


def blocks(readme: str) -> list[tuple[str, str]]:
    """(language, text) of the fenced blocks that are meant to be run."""
    return [(lang, text) for lang, text in _BLOCK.findall(readme) if lang in ("", "python")]


def commands(readme: str) -> list[str]:
    """One shell line per command; a Python block becomes one line too."""
    lines = []
    for language, text in blocks(readme):
        if language == "python":
            lines.append(f".venv/bin/python - <<'EOF'\n{text}EOF")
        else:
            lines.extend(text.replace("\\\n", " ").strip().splitlines())
    return [line for line in lines if line.strip()]


def script(lines: list[str]) -> str:
    """A shell program that says each command and its exit code, and stops at a wrong one."""
    parts = ["set -u"]
    for line in lines:
        parts.append(f"cat <<'SAID'\n\n$ {line}\nSAID")
        parts.append(line)
        parts.append(
            'code=$?; echo "(exit $code)"; case $code in 0|1) ;; *) exit $code ;; esac'
            if line.startswith("audit ")
            else 'code=$?; echo "(exit $code)"; [ $code = 0 ] || exit $code'
        )
    return "\n".join(parts) + "\n"


def main() -> int:
    """The exit code of the first command that failed, 1 for a traceback, else 0."""
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    words.add_argument("--keep", type=Path, help="clone into this new folder and leave it")
    words.add_argument("--no-tests", action="store_true", help="leave out `make test`")
    told = words.parse_args()
    with tempfile.TemporaryDirectory(prefix="newcomer-") as folder:
        clone = told.keep or Path(folder) / "auditor"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        home = Path(folder) / "home"
        home.mkdir()
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
        environment |= {
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "PATH": "/usr/local/bin:/usr/bin:/bin",
        }
        program = Path(folder) / "pasted.sh"
        lines = commands((clone / "README.md").read_text())
        lines = [line for line in lines if not (told.no_tests and line == "make test")]
        program.write_text(script(lines))
        running = subprocess.Popen(
            ["bash", str(program)],
            cwd=clone,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert running.stdout is not None
        traceback = False
        for line in running.stdout:
            traceback = traceback or line.startswith("Traceback (most recent call last)")
            sys.stdout.write(line)
            sys.stdout.flush()
        return running.wait() or int(traceback)


if __name__ == "__main__":
    sys.exit(main())
