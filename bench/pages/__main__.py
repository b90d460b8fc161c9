"""Write the tables of README and docs. ``--check`` only reports whether all are current."""

from __future__ import annotations

from typing import Annotated

import typer

from rdx_fast.bench.pages import PAGES, RESULTS, read_rows, rewritten


def main(
    check: Annotated[
        bool, typer.Option("--check", help="Only report whether they are current.")
    ] = False,
) -> None:
    """Write the tables of README and docs; run from the checkout."""
    rows = read_rows(RESULTS)
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        if (new := rewritten(text, rows)) != text:
            print(f"{page} is not current" if check else f"{page} written")
            if check:
                raise typer.Exit(1)
            page.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
