"""Kernels built ahead of time: what is written, and how it would be launched.

No kernel runs here; that takes a GPU (``test_on_the_gpu``).
"""

from __future__ import annotations

import copy
import ctypes
import json
import math
import re
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch

from rdx_fast.bundle.signature import SigningKey
from rdx_fast.errors import BundleError, DriverTooOldError, EngineError
from rdx_fast.kernels import triton_kernels
from rdx_fast.kernels.aot import assembler_version, refuse_spills
from rdx_fast.kernels.aot import build as build_kernels
from rdx_fast.kernels.gpu import cosine_map, fuse_mul, resize_normalize, smooth_map
from rdx_fast.kernels.gpu.driver import OLDEST, Gpu
from rdx_fast.kernels.gpu.launch import ARCHITECTURES, Launch, Variant, configuration, dtype_name
from rdx_fast.kernels.gpu.library import DeviceArray, KernelLibrary, Packed, find_kernels
from rdx_fast.kernels.gpu.operations import source_hash, variants
from support.signing import keys

MAX_REGISTERS = 255  # of a thread, on every architecture
NEWEST = 99000  # CUDA version of a driver that takes whatever was built


@pytest.fixture(scope="session")
def manifest(kernels: Path) -> list[dict]:
    return json.loads((kernels / "kernels.json").read_text())["kernels"]


@pytest.mark.parametrize("variant", list(variants()), ids=lambda v: v.name)
def test_constants_follow_the_parameters(variant: Variant) -> None:
    """A prepared launch passes them in this order."""
    names = getattr(triton_kernels, variant.kernel).arg_names
    blocks = configuration(variant.configurations, 90).blocks
    count = len(variant.parameters)
    assert names[:count] == [name for name, _ in variant.parameters]
    assert set(names[count:]) == variant.constants.keys() | blocks.keys()


def array(shape: tuple[int, ...], dtype: str = "float32", pointer: int = 0x1000) -> DeviceArray:
    return DeviceArray.contiguous(pointer, shape, dtype)


def features(dtype: str, last: bool = False, channels: int = 64) -> list[DeviceArray]:
    maps = [array((2, channels, 8, 8), dtype), array((2, 2 * channels, 4, 4), dtype)]
    if not last:
        return maps
    for i, x in enumerate(maps):
        _, c, h, w = x.shape
        maps[i] = DeviceArray(x.pointer, x.shape, x.dtype, (c * h * w, 1, w * c, c))
    return maps


def cosine_launch(dtype: str, last: bool, architecture: int = 90, channels: int = 64) -> Launch:
    maps = features(dtype, last, channels)
    return cosine_map.launch(maps, maps, [array((2, 8, 8)), array((2, 4, 4))], architecture)


def smooth_launch(architecture: int) -> Launch:
    epilogue = smooth_map.Epilogues(
        labels=array((64, 96), "uint8"),
        has_labels=True,
        thresholds=array((5,)),
        regions=5,
        top_k=7,
        maps=array((2, 64, 96)),
        write_maps=True,
        keys_so_far=array((2, 5), "uint32"),
        areas_so_far=array((2, 5), "int32"),
        tiles_done=array((2,), "int32"),
        maxima=array((2, 5)),
        areas=array((2, 5), "int64"),
        top_means=array((2,)),
    )
    distances = [array((2, 8, 8)), array((2, 4, 4))]
    operators = (array((1,)), array((1,), "int32"))
    return smooth_map.launch(distances, *operators, (64, 96), epilogue, architecture)


def resize_launch(pixel_format: str, pixel: str, dtype: str) -> Launch:
    colour = (3,) if pixel_format in ("rgb", "bgr") else ()
    taps = (array((16,), "int32"), array((3, 16, 5)))
    return resize_normalize.launch(
        array((2, 40, 40, *colour), pixel),
        pixel_format,
        (1, 0),
        (0, 255),
        taps,
        taps,
        array((3,)),
        array((3,)),
        array((2, 3, 16, 16), dtype),
        90,
    )


LAUNCHES = {
    "cosine_map_fp16_channels_last0_aligned1": cosine_launch("float16", last=False),
    "cosine_map_fp32_channels_last1_aligned1": cosine_launch("float32", last=True),
    "cosine_map_fp16_channels_last1_aligned0": cosine_launch("float16", last=True, channels=24),
    "smooth_map": smooth_launch(90),
    "fuse_mul": fuse_mul.launch([array((2, 8, 8))], array((2, 64, 96)), 90),
    "resize_normalize_u8_fp16_format0": resize_launch("bgr", "uint8", "float16"),
    "resize_normalize_u8_fp32_format1": resize_launch("mono", "uint8", "float32"),
    "resize_normalize_u16_fp32_format2": resize_launch("bayer_rggb", "uint16", "float32"),
}


def test_files_of_other_versions_stay_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may be the same files on disk."""
    monkeypatch.setattr("rdx_fast.kernels.aot.variants", tuple)
    (tmp_path / "candidate").mkdir()
    before = tmp_path / "kernels.json"
    before.write_text("of the released bundle")
    (tmp_path / "candidate" / "kernels.json").hardlink_to(before)
    assert json.loads(build_kernels(tmp_path / "candidate").read_text())["kernels"] == []
    assert before.read_text() == "of the released bundle"


@pytest.mark.slow
def test_everything_is_built(kernels: Path, manifest: list[dict]) -> None:
    assert {k["name"] for k in manifest} == {v.name for v in variants()}
    for kernel in manifest:
        assert set(kernel["builds"]) == {str(a) for a in ARCHITECTURES}
        for architecture, build in kernel["builds"].items():
            cubin = (kernels / build["cubin"]["file"]).read_bytes()
            assert cubin[:4] == b"\x7fELF"
            assert build["stack_bytes"] == 0  # nothing spilled
            assert 0 < build["registers"] <= MAX_REGISTERS
            assert build["shared_bytes"] <= 48 * 1024
            assert ("ptx" in build) == (architecture == "80")
            assert build["cubin"]["cuda"] == assembler_version(int(architecture))
            # Newer assemblers write their version into the cubin too.
            for major, minor in re.findall(rb"tools, release (\d+)\.(\d+)", cubin):
                assert build["cubin"]["cuda"] == 1000 * int(major) + 10 * int(minor)
        assert kernel["builds"]["80"]["ptx"]["cuda"] == OLDEST
        ptx = (kernels / kernel["builds"]["80"]["ptx"]["file"]).read_text()
        assert re.findall(r"^\.version (.*)", ptx, re.MULTILINE) == ["8.7"]
        assert f".entry {kernel['kernel']}(" in ptx
        assert ".target sm_80" in ptx


@pytest.mark.slow
def test_cosine_map_reads_ahead(kernels: Path, manifest: list[dict]) -> None:
    """Features go into shared memory asynchronously while the ones before are summed."""
    names = re.compile(r"cosine_map_(fp|bf)16_channels_last[01]_aligned1")
    half = [k for k in manifest if names.fullmatch(k["name"])]
    assert len(half) == 4
    for kernel in half:
        ptx = (kernels / kernel["builds"]["80"]["ptx"]["file"]).read_text()
        assert re.search(r"cp\.async\.c[ag]\.shared\.global", ptx)
        for build in kernel["builds"].values():
            blocks = build["blocks"]
            one = 2 * 2 * blocks["BLOCK_C"] * blocks["BLOCK_P"]  # bytes, teacher and student
            assert build["shared_bytes"] >= (blocks["STAGES"] - 1) * one > 0


@pytest.mark.slow
def test_spills_are_refused(manifest: list[dict]) -> None:
    refuse_spills(manifest)
    spilling = copy.deepcopy(manifest)
    spilling[0]["builds"]["86"]["stack_bytes"] = 8
    with pytest.raises(RuntimeError, match=r"spill registers.* for sm_86: 8 bytes"):
        refuse_spills(spilling)


@pytest.mark.slow
@pytest.mark.parametrize("name", LAUNCHES)
@pytest.mark.parametrize(("architecture", "kind"), [(90, b"\x7fELF"), (103, b"//")])
def test_launches_find_their_kernel(kernels, name, architecture, kind) -> None:
    library = KernelLibrary(kernels, architecture, cuda=NEWEST)
    chosen = library.choose(LAUNCHES[name])
    assert chosen["name"] == name
    # Another architecture than those built gets the baseline's PTX.
    assert library.image(chosen).lstrip()[: len(kind)] == kind


@pytest.mark.slow
@pytest.mark.parametrize("name", LAUNCHES)
def test_arguments_are_packed_as_the_ptx_wants(kernels, manifest, name) -> None:
    launch = LAUNCHES[name]
    (kernel,) = (k for k in manifest if k["name"] == name)
    packed = Packed(kernel, launch.arguments)
    ptx = (kernels / kernel["builds"]["80"]["ptx"]["file"]).read_text()
    head = ptx[ptx.index(".entry") : ptx.index(".reqntid")]
    declared = [int(bits) // 8 for bits in re.findall(r"\.param \.\w(\d+)", head)]
    assert [ctypes.sizeof(value) for value in packed.values] == declared
    pointers = ctypes.cast(packed.address, ctypes.POINTER(ctypes.c_void_p))
    for i, value in enumerate(packed.values):
        assert pointers[i] == ctypes.addressof(value)
    for value, given in zip(packed.values, launch.arguments, strict=False):
        expected = given.pointer if isinstance(given, DeviceArray) else given
        assert value.value == pytest.approx(expected, rel=1e-7)
    for hidden in packed.values[len(launch.arguments) :]:
        assert hidden.value is None
    build = kernel["builds"]["90"]
    assert all(launch.constants[block] == size for block, size in build["blocks"].items())
    assert launch.num_warps == build["num_warps"]


def test_grids_cover_everything() -> None:
    for architecture in ARCHITECTURES:
        for layout in ("first", "last"):
            launch = cosine_launch("float16", layout == "last", architecture)
            blocks = configuration(cosine_map.CONFIGURATIONS[layout], architecture).blocks
            positions = blocks["BLOCK_P"]
            assert launch.grid == (math.ceil(64 / positions) + math.ceil(16 / positions), 2)
        blocks = configuration(smooth_map.CONFIGURATIONS, architecture).blocks
        tiles = math.ceil(64 / blocks["BLOCK_Y"]) * math.ceil(96 / blocks["BLOCK_X"])
        assert smooth_launch(architecture).grid == (tiles, 2)


def write_manifest(folder: Path, builds: dict[str, Any], **altered: Any) -> Path:
    """A manifest of one kernel, with the files that ``builds`` names."""
    for kinds in builds.values():
        for kind in ("cubin", "ptx"):
            if kind in kinds:
                (folder / kind).write_bytes(kind.encode())
                digest = sha256(kind.encode()).hexdigest()
                kinds[kind] = {"file": kind, "sha256": digest, "cuda": kinds[kind]}
    content = {
        "format": 3,
        "source_sha256": source_hash(),
        "kernels": [{"name": "a_kernel", "builds": builds}],
    }
    (folder / "kernels.json").write_text(json.dumps(content | altered))
    return folder


@pytest.mark.parametrize(
    ("architecture", "driver", "kind", "launched"),
    [
        (120, 12080, "ptx", 80),  # the assembler was CUDA 13.4's
        (120, 12090, "ptx", 80),
        (120, 13000, "cubin", 120),  # minor versions do not matter
        (120, 14000, "cubin", 120),
        (86, 12080, "cubin", 86),
        (103, 13000, "ptx", 80),  # for which there is no cubin
        (80, 12080, "cubin", 80),
    ],
)
def test_the_driver_decides_what_is_loaded(
    tmp_path: Path, architecture: int, driver: int, kind: str, launched: int
) -> None:
    builds = {
        "80": {"cubin": 12090, "ptx": 12080},
        "86": {"cubin": 12090},
        "120": {"cubin": 13040},
    }
    library = KernelLibrary(write_manifest(tmp_path, builds), architecture, cuda=driver)
    assert library.architecture == launched
    (kernel,) = json.loads((tmp_path / "kernels.json").read_text())["kernels"]
    assert library.image(kernel) == kind.encode()


def test_drivers_that_are_too_old(tmp_path: Path) -> None:
    folder = write_manifest(tmp_path, {"80": {"cubin": 13000, "ptx": 12080}})
    for architecture in (80, 90):
        assert KernelLibrary(folder, architecture, cuda=12080).architecture == 80
        with pytest.raises(DriverTooOldError, match=r"supports CUDA 12\.6, 12\.8 or later"):
            KernelLibrary(folder, architecture, cuda=12060)


def test_kernels_without_their_toolchain_are_refused(tmp_path: Path) -> None:
    folder = write_manifest(tmp_path, {}, format=2)
    with pytest.raises(EngineError, match=r"has format 2, .* reads 3: build the kernels"):
        KernelLibrary(folder, 90, cuda=NEWEST)


@pytest.mark.slow
def test_library_needs_neither_torch_nor_triton(kernels: Path) -> None:
    code = """
import sys
from pathlib import Path
from rdx_fast.kernels.gpu.library import KernelLibrary
KernelLibrary(Path(sys.argv[1]), 90, cuda=13040)
print(sorted({"torch", "triton", "cuda"} & sys.modules.keys()))
"""
    command = [sys.executable, "-P", "-c", code, str(kernels)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_what_is_refused(kernels: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"compute capability 7\.5, the kernels need 8\.0"):
        KernelLibrary(kernels, 75, cuda=NEWEST)
    with pytest.raises(EngineError, match=r"cannot be read .*python -m rdx_fast\.kernels\.aot"):
        KernelLibrary(tmp_path, 90, cuda=NEWEST)
    (tmp_path / "kernels.json").write_text('{"format": 99, "kernels": []}')
    with pytest.raises(EngineError, match="has format 99, this rdx_fast reads 3"):
        KernelLibrary(tmp_path, 90, cuda=NEWEST)
    library = KernelLibrary(kernels, 90, cuda=NEWEST)
    launch = cosine_launch("float64", last=False)
    with pytest.raises(EngineError, match=r"holds no cosine_map for .*float64"):
        library.choose(launch)
    kernel = library.choose(LAUNCHES["fuse_mul"])
    with pytest.raises(ValueError, match="takes 12 arguments, 3 were given"):
        Packed(kernel, (1, 2, 3))
    askew = fuse_mul.launch([array((2, 8, 8), pointer=0x1008)], array((2, 64, 96)), 90)
    with pytest.raises(ValueError, match="d0 begins at 0x1008, no multiple of 16 bytes"):
        Packed(kernel, askew.arguments)
    frames = LAUNCHES["resize_normalize_u8_fp16_format0"]
    kernel = library.choose(frames)
    assert Packed(kernel, (array((2, 40, 40, 3), "uint8", 0x1007), *frames.arguments[1:])).values


def test_kernels_of_other_sources_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bundle keeps the kernels of the version that built them; those must not run for another."""
    monkeypatch.setattr("rdx_fast.kernels.gpu.library.BUILT", tmp_path / "built")
    with pytest.raises(EngineError, match=r"no folder 'kernels' and this installation holds no"):
        find_kernels(tmp_path)

    def write(name: str, source: str) -> Path:
        (tmp_path / name).mkdir(exist_ok=True)
        content = {"format": 3, "source_sha256": source, "kernels": []}
        (tmp_path / name / "kernels.json").write_text(json.dumps(content))
        return tmp_path / name

    stale = write("kernels", "0" * 64)
    with pytest.raises(EngineError, match=r"built from sources other than .*kernels\.aot"):
        find_kernels(tmp_path)
    with pytest.raises(EngineError, match="built from sources other than"):
        KernelLibrary(stale, 90, cuda=NEWEST)
    built = write("built", source_hash())
    assert find_kernels(tmp_path) == built
    own = write("kernels", source_hash())
    assert find_kernels(tmp_path) == own


def test_which_kernels_must_be_signed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bundle's own, if they would be loaded; the installation's need not be."""
    signing = SigningKey.read(keys(tmp_path, "quality")[0])
    built, own = tmp_path / "built", tmp_path / "part.rdx" / "kernels"
    monkeypatch.setattr("rdx_fast.kernels.gpu.library.BUILT", built)
    for folder, source in ((built, source_hash()), (own, "0" * 64)):
        folder.mkdir(parents=True)
        content = {"format": 3, "source_sha256": source, "kernels": []}
        (folder / "kernels.json").write_text(json.dumps(content))
    assert find_kernels(own.parent, signing.public) == built
    shutil.copy(built / "kernels.json", own)
    with pytest.raises(BundleError, match=r"kernels\.json is not signed, .*\(rdx-fast sign\)"):
        find_kernels(own.parent, signing.public)
    signing.sign_made(own / "kernels.json")
    assert find_kernels(own.parent, signing.public) == own
    assert KernelLibrary(own, 90, cuda=NEWEST, public_key=signing.public)
    assert KernelLibrary(built, 90, cuda=NEWEST, public_key=signing.public)
    (own / "kernels.json").write_text((built / "kernels.json").read_text() + " ")
    with pytest.raises(BundleError, match=r"kernels\.json was changed after it was signed"):
        find_kernels(own.parent, signing.public)
    # Or after it was found: a library checks what it reads.
    with pytest.raises(BundleError, match=r"kernels\.json was changed after it was signed"):
        KernelLibrary(own, 90, cuda=NEWEST, public_key=signing.public)


@pytest.mark.slow
def test_altered_code_is_refused(kernels: Path, tmp_path: Path) -> None:
    for file in kernels.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    library = KernelLibrary(tmp_path, 90, cuda=NEWEST)
    kernel = library.choose(LAUNCHES["fuse_mul"])
    with (tmp_path / kernel["builds"]["90"]["cubin"]["file"]).open("ab") as file:
        file.write(b"x")
    with pytest.raises(EngineError, match="is not what"):
        library.image(kernel)


def test_mixed_layouts_and_too_many_scales() -> None:
    first, last = features("float16"), features("float16", last=True)
    out = [array((2, 8, 8)), array((2, 4, 4))]
    with pytest.raises(ValueError, match="neither all contiguous nor all channels-last"):
        cosine_map.launch(first, last, out, 90)
    with pytest.raises(ValueError, match="4 scales, the GPU's kernels take 1 to 3"):
        cosine_map.launch(first * 2, first * 2, out * 2, 90)
    lone = [array((2, 1, 8, 8), "float16")]
    assert cosine_map.common_layout([*lone, last[0]]) == "last"  # one channel is both


def test_top_mean_wants_the_maps() -> None:
    given = smooth_launch(90)
    assert given.arguments[given.arguments.index(5) + 1] == 7
    epilogue = smooth_map.Epilogues(*[array((1,))] * 13)._replace(top_k=1, write_maps=False)
    with pytest.raises(ValueError, match="give them a place"):
        smooth_map.launch([array((1, 2, 2))], array((1,)), array((1,)), (4, 4), epilogue, 90)


@pytest.mark.gpu
def test_on_the_gpu(kernels: Path) -> None:
    maps = [torch.randn(3, 64, 8, 40, device="cuda", dtype=torch.float16) for _ in range(2)]
    out = torch.full((3, 8, 40), math.nan, device="cuda")
    given = [[array(tuple(x.shape), dtype_name(x), x.data_ptr())] for x in (*maps, out)]
    with (
        Gpu() as gpu,
        gpu.current(),
        KernelLibrary(kernels, gpu.architecture, cuda=gpu.cuda) as library,
    ):
        library.launch(cosine_map.launch(*given, library.architecture))
        torch.cuda.synchronize()
    expected = 1 - torch.nn.functional.cosine_similarity(*(x.double() for x in maps))
    torch.testing.assert_close(out.double(), expected, rtol=0, atol=2e-6)
