"""Additions to MkDocs, named by ``hooks`` in mkdocs.yml.

Pages outside ``docs`` (``PAGES``) appear on the site without a copy: their text is read at each
build, and their links, which are relative to their own folder, are made relative to the page. The
page of the examples also shows their code. The command-line reference is made from the commands
themselves.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
# Where each of them is on the site.
PAGES = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "development/architecture.md",
    "CONTRIBUTING.md": "development/contributing.md",
    "CHANGELOG.md": "development/changelog.md",
    "examples/README.md": "tutorials/examples.md",
}
EXAMPLES = PAGES["examples/README.md"]
COMMANDS = "reference/commands.md"

_LINK = re.compile(
    r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s:#]+)(?P<anchor>(?:#[^)]*)?)\)"
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made here."""
    for name, place in PAGES.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        content = moved(text, name, place)
        if place == EXAMPLES:
            content += program_sections()
        files.append(File.generated(config, place, content=content))
    files.append(File.generated(config, COMMANDS, content=command_page()))
    return files


def on_serve(server: Any, config: MkDocsConfig, builder: Any) -> Any:
    """Build again when one of the pages changes."""
    for name in PAGES:
        server.watch(str(ROOT / name))
    server.watch(str(ROOT / "examples"))
    return server


def moved(text: str, name: str, place: str) -> str:
    """The text of the page ``name`` with its links as they are from ``place``.

    Links to another of these pages lead to where that is on the site, links into ``docs/`` to the
    page or image itself, links to an example to its section. Any other file is not on the site: the
    link's text alone is kept.
    """
    sections = {f"examples/{program.name}": f"#{program.stem}" for program in programs()}

    def link(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(name), match["target"]))
        anchor = sections.get(target, match["anchor"])
        if target in PAGES:
            target = PAGES[target]
        elif target in sections:
            target = EXAMPLES
        elif target.startswith("docs/"):
            target = target.removeprefix("docs/")
        else:
            return match["text"]
        target = posixpath.relpath(target, posixpath.dirname(place) or ".")
        return f"{match['image']}[{match['text']}]({target}{anchor})"

    return _LINK.sub(link, text)


def programs() -> list[Path]:
    """The examples, by name."""
    return sorted((ROOT / "examples").glob("*.py"))


def program_sections() -> str:
    """A section with the code of each example; its anchor is the file's name without suffix."""
    return "".join(
        f"\n## {program.name} {{ #{program.stem} }}\n\n"
        f"````python\n{program.read_text(encoding='utf-8')}````\n"
        for program in programs()
    )


def command_page() -> str:
    """The reference of ``rdx-fast``, as Typer writes it."""
    import typer
    from typer.cli import get_docs_for_click

    from rdx_fast.cli import app

    command: Any = typer.main.get_command(app)
    for name in [name for name, one in command.commands.items() if one.hidden]:
        del command.commands[name]
    context = typer.Context(command, info_name="rdx-fast")
    return get_docs_for_click(obj=command, ctx=context, name="rdx-fast", title="Commands")
