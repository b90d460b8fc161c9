"""The default tests of changed files: ``python tests/support/changed.py FILE...``.

The folders of ``tests`` are named like those of the package: a file's tests follow from its path.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import PurePath

# Where the folder of the tests has another name than that of the code.
TESTS = {
    "csrc": "kernels",
    "devices": "pipelines",
    "detector.py": "pipelines",
    "preprocess.py": "pipelines",
    "postprocess.py": "pipelines",
    "precision.py": "engines",
    "bundle": "export",
    "limits": "recipe",
    "applied_recipe.py": "recipe",
    "recalibrate.py": "recipe",
    "scoring.py": "cli",
    "wording.py": "cli",
    "ARCHITECTURE.md": "docs",
    "CONTRIBUTING.md": "docs",
    "README.md": "docs",
}
FOLDERS = (
    *("bench", "cli", "docs", "engines", "evaluation", "examples", "export", "kernels"),
    *("models", "pipelines", "recipe", "report", "station", "training"),
)


def folder_of(file: str) -> str | None:
    """The folder or file of a changed file's tests; None if it has none of its own."""
    parts = PurePath(file).parts
    if parts[0] == "tests":
        return file if parts[-1].startswith("test_") else None
    name = parts[1] if parts[0] == "rdx_fast" and len(parts) > 1 else parts[0]
    name = TESTS.get(name, name)
    return f"tests/{name}" if name in FOLDERS else None


def main(files: list[str]) -> int:
    chosen = {found for file in files if (found := folder_of(file)) is not None}
    if not chosen:
        return 0
    print(f"tests of what changed: {' '.join(sorted(chosen))}")
    command = [sys.executable, "-m", "pytest", "-q", *sorted(chosen)]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
