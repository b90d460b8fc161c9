"""Who may import whom, read off the source."""

from __future__ import annotations

import ast
import sys

import pytest

from support.layers import BASE, LAYERS, OWNED, SOURCES, imports, package


@pytest.mark.parametrize("module", sorted(SOURCES))
def test_imports_go_down(module: str) -> None:
    layer = LAYERS[package(module)]
    for name in imports(SOURCES[module]):
        if name.partition(".")[0] == "rdx_fast":
            assert LAYERS[package(name)] <= layer, f"{module} imports {name} from a higher layer"


@pytest.mark.parametrize("module", sorted(SOURCES))
def test_optional_dependencies_have_owners(module: str) -> None:
    for name in {name.partition(".")[0] for name in imports(SOURCES[module])}:
        if name in sys.stdlib_module_names or name in BASE or name == "rdx_fast":
            continue
        assert name in OWNED, f"{module} imports {name}, which nobody owns: see OWNED"
        assert {module, package(module)} & OWNED[name], f"{module} imports {name}: see OWNED"


def test_no_import_in_a_circle() -> None:
    graph = {m: {n for n in imports(p) if n in SOURCES and n != m} for m, p in SOURCES.items()}
    while leaves := [m for m, wanted in graph.items() if not wanted & graph.keys()]:
        for leaf in leaves:
            del graph[leaf]
    assert not graph, f"imports go in a circle among {sorted(graph)}"


def test_methods_are_told_apart_where_they_differ_alone() -> None:
    for module, path in SOURCES.items():
        if package(module) in ("rdx_fast.models", "rdx_fast.training", "rdx_fast.bundle"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare):
                sides = [node.left, *node.comparators]
                values = {side.value for side in sides if isinstance(side, ast.Constant)}
                assert not values & {"rd4ad", "rd-expert"}, f"{module}, line {node.lineno}"
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "isinstance":
                assert "RD4AD" not in ast.dump(node), f"{module}, line {node.lineno}"
                assert "RDExpert" not in ast.dump(node), f"{module}, line {node.lineno}"
