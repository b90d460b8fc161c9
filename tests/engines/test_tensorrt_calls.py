"""Every call of TensorRT's, through NVIDIA's own bindings, over libraries that do nothing.

The bindings check that a method exists and takes its arguments, for TensorRT 10, 11 and TensorRT
for RTX. What is not checked is what TensorRT does then: nothing is built, loaded or run.
"""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import rdx_fast.engines.tensorrt
from rdx_fast.bundle.bundle import Bundle
from support.checkout import ROOT
from support.tensorrt_bindings import BINDINGS, bindings, stub_libraries

RTX = "tensorrt_rtx"
ALL = [*BINDINGS, RTX]
# Names in TensorRT's API that the sources use of other things alone.
OF_OTHERS = {"allocate", "file", "logger", "pop", "read", "scales", "write"}
Told = dict[str, Any]


@pytest.fixture(scope="module")
def tell(
    bundle: Bundle, store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Told]:
    """What ``support/tensorrt_calls.py`` tells of a TensorRT."""

    @cache
    def tell(which: str) -> Told:
        folder = tmp_path_factory.mktemp("tensorrt")
        if which == RTX:
            if find_spec(RTX) is None:
                pytest.skip("TensorRT for RTX is not installed")
            names = ("libtensorrt_rtx.so.1", "libtensorrt_onnxparser_rtx.so.1")
            at = folder
        else:
            major = which.split()[1]
            parts = ("libnvinfer", "libnvonnxparser", "libnvinfer_plugin")
            names = tuple(f"{part}.so.{major}" for part in parts)
            at = bindings(store, which)
        path = shutil.copytree(bundle.path, folder / "part.rdx")
        script = ROOT / "tests" / "support" / "tensorrt_calls.py"
        command = [sys.executable, "-X", "faulthandler", "-P", script]
        done = subprocess.run(
            [*command, which, path, at, *stub_libraries(folder, names)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        told: Told = json.loads(done.stdout)
        return told

    return tell


@pytest.fixture(params=ALL)
def told(request: pytest.FixtureRequest, tell: Callable[[str], Told]) -> Told:
    found = tell(request.param)
    assert not found["failures"]
    return found


def test_versions(tell: Callable[[str], Told]) -> None:
    for which, (_, version) in BINDINGS.items():
        assert tell(which)["version"] == version


@pytest.mark.parametrize("which", BINDINGS)
def test_all_that_the_sources_use_is_called(which: str, tell: Callable[[str], Told]) -> None:
    of_rtx, told = tell(RTX), tell(which)
    used = {
        node.attr
        for file in Path(rdx_fast.engines.tensorrt.__path__[0]).glob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Attribute)
    }
    names = {*told["names"], *of_rtx["names"]} - OF_OTHERS
    called = {call.split(".")[1] for call in (*told["calls"], *of_rtx["calls"])}
    assert len(used & names) > 40
    assert used & names <= called


def test_what_is_asked_of_the_builder(told: Told) -> None:
    asked, image = told["asked"], told["shapes"]["image"][1:]
    batches = [(1, 1, 1), (2, 8, 8), (9, 20, 20)]
    assert asked["profiles"] == [
        [selector, "image", batch, *image]
        for profile in batches
        for selector, batch in enumerate(profile)  # smallest, usual, largest
    ]
    assert told["formats"] == dict.fromkeys(told["shapes"], 1 << told["HWC8"])
    assert asked["clear_flag"] == [[told["TF32"]]]
    assert asked["pool"] == [[told["WORKSPACE"], 4096 * 2**20]]
    if told["rtx"]:
        assert asked["set_flag"] == [[told["REQUIRE_USER_ALLOCATION"]]]
        assert not {"level", "tiling"} & asked.keys()
    else:
        assert (asked["level"], asked["tiling"]) == ([[5]], [[told["FULL"]]])
        assert "set_flag" not in asked
    assert told["prepared"] == ([".log", ".plan"] if told["rtx"] else [".log", ".plan", ".timings"])


def test_plans_are_built_once(told: Told) -> None:
    assert told["built"] == [1, 2, 3]  # then once for each that is not loaded
    if not told["rtx"]:
        assert told["timings"] == ["", "timings", "timings", ""]  # at last, they fit no more


def test_without_options_the_stored_plan_is_taken(told: Told) -> None:
    wanted = [
        [0, 20, 3 if told["rtx"] else 5],
        [1, 128, 3],  # asked for, and built
        [1, 128, 3],  # the defaults' own plan comes first
    ]
    assert [found for *found, _ in told["openings"]] == wanted
    for _, batch, level, description in told["openings"]:
        ending = "" if told["rtx"] else f", optimization level {level}"
        assert description.endswith(f", batches to {batch}{ending}")


def test_plans_that_must_be_signed(told: Told) -> None:
    rtx = told["rtx"]
    begins = {
        "without a plan": "PlanError: .* holds no signed plan that .* runs on a GPU, .*--sign-key",
        "unsigned": r"BundleError: .*\.plan is not signed, .* sign it .* delete it and build it",
        "signed": "no error; compiled code: 0 loaded, 0 stored",
        "signed and rejected": "PlanError: .* holds no signed plan",
        "by anybody": f"no error; compiled code: 0 loaded, {int(rtx)} stored",
        "with unsigned code": f"no error; compiled code: 0 loaded, {int(rtx)} stored",
        "swapped": r"BundleError: .*\.plan was changed after it was signed, .* delete it and build",
    }
    if rtx:
        begins["with signed code"] = "no error; compiled code: 1 loaded"
        begins["signed code by anybody"] = "no error; compiled code: 1 loaded"
        begins["with swapped code"] = r"BundleError: .*\.jit was changed after it was signed"
    assert told["demanded"].keys() == begins.keys()
    for case, pattern in begins.items():
        assert re.match(pattern, told["demanded"][case]), (case, told["demanded"][case])


def test_graphs_take_the_profile_of_their_batch(told: Told) -> None:
    image = told["shapes"]["image"][1:]
    for profile, (batch, context) in enumerate(zip(told["bound"], told["contexts"], strict=False)):
        bound = told["bound"][batch]
        stream = context["calls"][0][2]
        (scratch,) = set(bound["sizes"]) - {str(a[0]) for a in bound["arrays"].values()}
        assert context["calls"] == [
            ["profile", profile, stream],
            ["shape", "image", int(batch), *image],
            *(["address", name, bound["arrays"][name][0]] for name in told["shapes"]),
            ["size"],
            ["memory", int(scratch), bound["sizes"][scratch]],
            ["execute", stream],
        ]
    assert told["too_large"].startswith("EngineError: TensorRT takes no batch of 21")


def test_halves_lie_channels_last(told: Told) -> None:
    for batch, bound in told["bound"].items():
        assert bound["layout"] == "last"
        for name in told["shapes"]:
            check_halves(name, int(batch), bound, told)


def check_halves(name: str, batch: int, bound: Told, told: Told) -> None:
    pointer, shape, strides, dtype = bound["arrays"][name]
    _, channels, height, width = told["shapes"][name]
    assert (shape, dtype) == ([batch, channels, height, width], "float16")
    padded = 8 if name == "image" else channels
    assert strides == [height * width * padded, 1, width * padded, padded]
    size = batch * height * width * padded * 2
    assert bound["sizes"][str(pointer)] == size
    # The padding is zero before anything runs.
    assert bound["filled"].get(str(pointer)) == ([0, size] if name == "image" else None)


def test_floats_lie_channels_first(told: Told) -> None:
    floats = told["floats"]
    assert floats["layout"] == "first"
    assert floats["formats"] == dict.fromkeys(told["shapes"], 1 << told["LINEAR"])
    assert not floats["filled"]
    assert {dtype for *_, dtype in floats["arrays"].values()} == {"float32"}


def test_each_lies_by_its_own_type(told: Told) -> None:
    """As of a network whose feature maps are too large for float16."""
    mixed = told["float maps"]
    assert mixed["layout"] == "first"
    check_halves("image", 5, mixed, told)
    assert mixed["formats"] == {
        name: 1 << told["HWC8" if name == "image" else "LINEAR"] for name in told["shapes"]
    }


def test_plans_with_other_formats_are_refused(told: Told) -> None:
    assert told["format"].startswith(
        "PlanError: image of the plan has the format CHW32 in profile 0, HWC8 was asked for"
    )


def test_what_tensorrt_fails_at_has_a_name(told: Told) -> None:
    assert len(told["failing"]) > 15
    for name, error in told["failing"].items():
        assert error.startswith(("PlanError: ", "EngineError: ")), f"{name}: {error}"
