"""Additions to MkDocs, named by ``hooks`` in mkdocs.yml.

Pages outside ``docs`` (``PAGES``) appear on the site without a copy: their text is read at each
build, and their links, which are relative to their own folder, are made relative to the page. The
command-line reference is made from the commands themselves.
"""

from __future__ import annotations

import posixpath
import re
from datetime import datetime
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

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
COMMANDS = "reference/commands.md"

_LINK = re.compile(
    r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s:#]+)(?P<anchor>(?:#[^)]*)?)\)"
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made here."""
    for name, place in PAGES.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, place, content=moved(text, name, place)))
    files.append(File.generated(config, COMMANDS, content=command_page()))
    return files


def on_serve(server: Any, config: MkDocsConfig, builder: Any) -> Any:
    """Build again when one of the pages changes."""
    for name in PAGES:
        server.watch(str(ROOT / name))
    return server


def moved(text: str, name: str, place: str) -> str:
    """The text of the page ``name`` with its links as they are from ``place``.

    Links to another of these pages lead to where that is on the site, links into ``docs/`` to the
    page or image itself. Any other file is not on the site: the link's text alone is kept.
    """

    def link(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(name), match["target"]))
        if target in PAGES:
            target = PAGES[target]
        elif target.startswith("docs/"):
            target = target.removeprefix("docs/")
        else:
            return match["text"]
        target = posixpath.relpath(target, posixpath.dirname(place) or ".")
        return f"{match['image']}[{match['text']}]({target}{match['anchor']})"

    return _LINK.sub(link, text)


def command_page() -> str:
    """The reference of ``rdx-fast``: usage, arguments and options of each command."""
    import typer

    from rdx_fast.cli import app

    group: Any = typer.main.get_command(app)
    parts = [
        "# Commands",
        "`rdx-fast --version` prints the version; `rdx-fast COMMAND --help` prints what this page "
        "says of a command. An error of rdx_fast is one message on stderr and exit code 2.",
    ]
    for name, command in group.commands.items():
        if not command.hidden:
            parts += _command(name, command)
    return "\n\n".join(parts) + "\n"


def _command(name: str, command: Any) -> list[str]:
    kinds = get_type_hints(command.callback)
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and not p.hidden]
    usage = " ".join(["rdx-fast", name, *map(_usage, arguments), "[OPTIONS]"])
    parts = [f"## {name}", _plain(command.help), f"```text\n{usage}\n```"]
    if arguments:
        rows = [(f"`{_usage(p)}`", _plain(p.help)) for p in arguments]
        parts.append(_table(("argument", "meaning"), rows))
    if options:
        rows = [(_names(p), _value(p, kinds[p.name]), _plain(p.help), _default(p)) for p in options]
        parts.append(_table(("option", "value", "meaning", "default"), rows))
    return parts


def _usage(argument: Any) -> str:
    name = argument.name.upper() + ("..." if argument.nargs == -1 else "")
    return name if argument.required else f"[{name}]"


def _names(option: Any) -> str:
    return ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))


def _value(option: Any, kind: Any) -> str:
    return "" if option.is_flag else option.metavar or _kind(kind)


def _kind(kind: Any) -> str:
    """The choices of a value, or the name of its type."""
    inner = [a for a in get_args(kind) if a is not NoneType]
    if get_origin(kind) is Literal:
        return ", ".join(f"`{choice}`" for choice in inner)
    if get_origin(kind) is tuple:
        return ", ".join(map(_kind, inner))
    if inner:  # optional, or a list: given once for each value
        return _kind(inner[0])
    if issubclass(kind, Enum):
        return ", ".join(f"`{choice.value}`" for choice in kind)
    names = {int: "integer", float: "number", str: "text", Path: "path", datetime: "time"}
    return names[kind]


def _default(option: Any) -> str:
    default = option.default
    if default is None or default is False or default == ():
        return ""
    if default is True:
        return "on"
    several = default if isinstance(default, list | tuple) else [default]
    values = ((one.value if isinstance(one, Enum) else one) for one in several)
    return f"`{' '.join(map(str, values))}`"


def _plain(text: str | None) -> str:
    return re.sub(r"\s+", " ", text or "").strip()


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines)
