"""What the pages say of the code's places."""

from __future__ import annotations

import re

from support.checkout import ROOT
from support.layers import LAYERS


def test_places_in_the_architecture_exist() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    named = set(re.findall(r"`((?:rdx_fast|kernels|export|bench|tests|csrc)(?:/[\w./]*)?)`", text))
    assert len(named) > 40
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_layers_of_the_architecture_are_those_checked() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    drawing = text.split("```")[1]
    layer = 0
    found = {}
    for line in drawing.splitlines():
        if line[:1].isdecimal():
            layer = int(line[0])
        for path in re.findall(r"rdx_fast/\w+(?:\.py)?|\b(?:kernels|export|bench)\b", line):
            module = path.removesuffix(".py").replace("/", ".")
            module = module if module.startswith("rdx_fast") else f"rdx_fast.{module}"
            found[module] = layer
    assert len(found) > 15
    assert found == {module: LAYERS[module] for module in found}


def test_files_of_the_main_path_are_short() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    sentence = text[text.index("The main path on a CPU is five files") :].partition("\n\n")[0]
    files = re.findall(r"`([\w/]+\.py)`", sentence)
    assert len(files) == 5
    lengths = {name: len((ROOT / name).read_text().splitlines()) for name in files}
    assert max(lengths.values()) < 250, lengths
