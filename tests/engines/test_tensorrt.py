"""Plans are real ones, built by TensorRT for RTX with no GPU; to load one takes a GPU."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from rdx_fast import Detector, open_engine
from rdx_fast.bundle.bundle import Bundle
from rdx_fast.bundle.signature import SigningKey
from rdx_fast.engines import GpuOptions
from rdx_fast.engines.tensorrt.api import Api, Log, load_api
from rdx_fast.engines.tensorrt.build import (
    configure,
    find_plan,
    inputs_and_outputs,
    parse,
    plan_key,
    prepare_kernels,
    prepare_plan,
    timings_file,
)
from rdx_fast.engines.tensorrt.engine import io_shapes
from rdx_fast.engines.tensorrt.plan import PlanKey, Target, load_plan, save_plan, stored_keys
from rdx_fast.errors import (
    BundleError,
    DeviceMemoryError,
    EngineError,
    MissingDependencyError,
    NoDriverError,
    PlanError,
)
from rdx_fast.kernels.gpu.library import FORMAT, KernelLibrary
from rdx_fast.kernels.gpu.operations import source_hash
from support import exported
from support.checkout import needs_no_gpu
from support.signing import keys

AMPERE, ADA, BLACKWELL = 86, 89, 120


@pytest.fixture(scope="module")
def api() -> Api:
    found = load_api()
    if not found.rtx:
        pytest.skip("plans for GPUs that are not here are built by TensorRT for RTX alone")
    return found


@pytest.fixture
def bundle_copy(bundle: Bundle, tmp_path: Path) -> Bundle:
    path = tmp_path / "part.rdx"
    shutil.copytree(bundle.path, path)
    return Bundle(path, bundle.manifest)


@pytest.mark.parametrize(
    ("precision", "stored", "capability", "quantised"),
    [
        ("fp16", "fp16", AMPERE, None),
        ("int8", "int8_symmetric", AMPERE, "INT8"),
        ("fp8", "fp8", ADA, "FP8"),
        pytest.param("fp8", "fp8", BLACKWELL, "FP8", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize(("method", "backbone"), exported.NETWORKS)
def test_plans_of_all_networks(
    method: str,
    backbone: str,
    precision: str,
    stored: str,
    capability: int,
    quantised: str | None,
    networks: Path,
    bundle: Bundle,
    api: Api,
) -> None:
    given = exported.as_bundle(networks, method, backbone, precision, bundle.manifest)
    file = given.network(stored)
    key = plan_key(file, given, Target.of_capability(capability), api, GpuOptions())
    trt = api.module
    log = Log(trt)
    builder = trt.Builder(log.logger)
    network, _parser = parse(file, key, api, log, builder)
    tensors = inputs_and_outputs(network)
    wanted = io_shapes(given.manifest)
    assert {t.name: tuple(t.shape) for t in tensors} == wanted
    assert all(shape[0] == -1 for shape in wanted.values())
    assert {t.dtype for t in tensors} == {trt.DataType.HALF}
    assert {t.allowed_formats for t in tensors} == {1 << int(trt.TensorFormat.HWC8)}
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    quantisers = [x for x in layers if x.type == trt.LayerType.QUANTIZE]
    assert "image" not in {x.get_input(0).name for x in quantisers}
    found = {x.get_output(0).dtype for x in quantisers}
    assert found == ({getattr(trt.DataType, quantised)} if quantised else set())
    assert configure(builder, network, key, api, log).num_optimization_profiles == 3

    path = prepare_plan(given, None, capability, precision=precision).file
    plan = load_plan(path, key)
    assert plan is not None
    assert len(plan) > sum(w.nbytes for w in weights(file)) / 2
    for name in wanted:
        assert name.encode() in plan
    path.unlink()


@pytest.mark.slow
def test_float8_needs_a_gpu_that_has_it(exported_as: Callable[..., Bundle], api: Api) -> None:
    with pytest.raises(EngineError, match=r"tensorrt: fp8 needs compute capability 8\.9, which"):
        prepare_plan(exported_as("fp8"), None, AMPERE, precision="fp8")


def weights(file: Path) -> Iterator[np.ndarray]:
    for constant in onnx.load(file).graph.initializer:
        yield numpy_helper.to_array(constant)


def test_a_plan_is_built_once(bundle_copy: Bundle, api: Api) -> None:
    seen: list[tuple[str, int, int]] = []
    path, key, built = prepare_plan(bundle_copy, None, AMPERE, lambda *step: seen.append(step))
    assert built
    assert path.parent == bundle_copy.path / "plans"
    assert seen[-1][1] == seen[-1][2] > 0
    assert all(0 <= done <= steps for _, done, steps in seen)
    log = path.with_suffix(".log").read_text()
    assert str(bundle_copy.network("fp32")) in log
    assert "Engine generation completed" in log
    assert {file.suffix for file in path.parent.iterdir()} == {".plan", ".log"}
    before = path.stat()
    assert before.st_mode & 0o777 == 0o644  # whoever runs the line may read what another built
    seen.clear()
    again = prepare_plan(bundle_copy, None, AMPERE, lambda *step: seen.append(step))
    assert again == (path, key, False)
    assert not seen
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert Detector(bundle_copy.path, "openvino").manifest == bundle_copy.manifest


KEY = PlanKey(
    network="ab" * 32,
    runtime="tensorrt 11.4.0",
    gpu="NVIDIA H200",
    driver="580.65, CUDA 13.0",
    compute_capability=90,
    profiles=((1, 1, 1), (2, 8, 8)),
    workspace_mb=4096,
    optimization_level=3,
    half_format="HWC8",
    recipe=1,
)
OTHERS = {
    "network": "cd" * 32,
    "runtime": "tensorrt 10.16.1",
    "gpu": "NVIDIA L4",
    "driver": "570.12, CUDA 12.8",
    "compute_capability": 89,
    "profiles": ((1, 1, 1), (2, 7, 7)),
    "workspace_mb": 1024,
    "optimization_level": 5,
    "half_format": "LINEAR",
    "recipe": 2,
}


def test_a_plan_of_another_key_is_never_loaded(tmp_path: Path) -> None:
    assert OTHERS.keys() == {field.name for field in fields(PlanKey)}
    (tmp_path / "plans").mkdir()
    files = {KEY.file(tmp_path)}
    save_plan(KEY.file(tmp_path), KEY, b"plan")
    assert load_plan(KEY.file(tmp_path), KEY) == b"plan"
    for name, value in OTHERS.items():
        other = replace(KEY, **{name: value})
        files.add(other.file(tmp_path))
        assert load_plan(other.file(tmp_path), other) is None
        # Not even under its name.
        shutil.copy(KEY.file(tmp_path), other.file(tmp_path))
        assert load_plan(other.file(tmp_path), other) is None
    assert len(files) == 1 + len(OTHERS)


def test_stored_plans(tmp_path: Path) -> None:
    assert stored_keys(tmp_path) == []
    (tmp_path / "plans").mkdir()
    keys = [replace(KEY, **{name: value}) for name, value in OTHERS.items()]
    for age, key in enumerate(keys):
        save_plan(key.file(tmp_path), key, b"plan")
        os.utime(key.file(tmp_path), (1e9 - age, 1e9 - age))
    assert stored_keys(tmp_path) == keys
    found = {name for name, key in zip(OTHERS, keys, strict=True) if KEY.differs_in_options(key)}
    assert found == {"profiles", "workspace_mb", "optimization_level"}

    first, second, third, fourth, *rest = (key.file(tmp_path) for key in keys)
    first.write_bytes(first.read_bytes()[:-1])
    second.write_bytes(second.read_bytes().replace(b'"driver"', b'"drover"'))
    third.write_bytes(b"no plan")
    fourth.rename(fourth.with_name("other.plan"))
    assert [key.file(tmp_path) for key in stored_keys(tmp_path)] == rest


def test_which_stored_plan_is_taken(bundle_copy: Bundle, api: Api) -> None:
    network, target = bundle_copy.network("fp32"), Target.of_capability(AMPERE)

    def chosen(options: GpuOptions | None = None) -> PlanKey:
        key, _ = find_plan(network, bundle_copy, target, api, options)
        return key

    def store(key: PlanKey, age: int) -> None:
        save_plan(key.file(bundle_copy.path), key, b"plan")
        os.utime(key.file(bundle_copy.path), (1e9 - age, 1e9 - age))

    default = chosen()
    assert default.profiles == GpuOptions().profiles
    (bundle_copy.path / "plans").mkdir()
    small, large = (chosen(GpuOptions(max_batch=n)) for n in (8, 200))
    store(replace(default, network="of another"), age=0)
    assert chosen() == default
    store(small, age=2)
    assert chosen() == small
    store(large, age=1)
    assert chosen() == large
    assert (chosen().max_batch, chosen(GpuOptions(max_batch=4)).max_batch) == (200, 4)
    assert chosen(GpuOptions()) == default
    store(default, age=3)
    assert chosen() == default


def test_which_plans_must_be_signed(bundle_copy: Bundle, api: Api, tmp_path: Path) -> None:
    """Those that would be loaded, and no others that lie there."""
    network, target = bundle_copy.network("fp32"), Target.of_capability(AMPERE)
    signing = SigningKey.read(keys(tmp_path, "quality")[0])
    wanting = replace(bundle_copy, public_key=signing.public)
    key, _ = find_plan(network, wanting, target, api, None)
    (bundle_copy.path / "plans").mkdir()
    other = replace(key, network="of another")
    save_plan(other.file(bundle_copy.path), other, b"plan")
    assert find_plan(network, wanting, target, api, None) == (key, None)
    small, _ = find_plan(network, wanting, target, api, GpuOptions(max_batch=8))
    file = small.file(bundle_copy.path)
    save_plan(file, small, b"plan")
    with pytest.raises(BundleError, match=f"{file.name} is not signed"):
        find_plan(network, wanting, target, api, None)
    signing.sign_made(file)
    assert find_plan(network, wanting, target, api, None) == (small, b"plan")
    # A signature holds for one name.
    save_plan(key.file(bundle_copy.path), key, b"plan")
    shutil.copy(f"{file}.sig", f"{key.file(bundle_copy.path)}.sig")
    with pytest.raises(BundleError, match="was changed after it was signed"):
        find_plan(network, wanting, target, api, None)


def test_measurements_are_kept_for_one_gpu_and_driver(tmp_path: Path) -> None:
    names = {
        timings_file(replace(KEY, **{name: value}), tmp_path) for name, value in OTHERS.items()
    }
    # Networks, batches, workspaces, levels and formats share what was measured.
    assert len(names | {timings_file(KEY, tmp_path)}) == 5
    assert timings_file(KEY, tmp_path).name == (
        "tensorrt_11.4.0-NVIDIA_H200-580.65__CUDA_13.0-90.timings"
    )


@pytest.mark.parametrize("harm", ["flipped", "cut", "empty", "header", "longer"])
def test_a_corrupt_plan_is_built_again(bundle_copy: Bundle, api: Api, harm: str) -> None:
    path = prepare_plan(bundle_copy, None, AMPERE).file
    key = plan_key(
        bundle_copy.network("fp32"), bundle_copy, Target.of_capability(AMPERE), api, GpuOptions()
    )
    whole = path.read_bytes()
    assert load_plan(path, key) is not None
    middle = len(whole) // 2
    path.write_bytes(
        {
            "flipped": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
            "cut": whole[:-1],
            "empty": b"",
            "header": whole.replace(b'"bytes"', b'"butes"', 1),
            "longer": whole + b"x",
        }[harm]
    )
    assert load_plan(path, key) is None
    assert prepare_plan(bundle_copy, None, AMPERE) == (path, key, True)
    assert load_plan(path, key) is not None


def test_what_cannot_be_built(bundle_copy: Bundle, api: Api, bundle: Bundle) -> None:
    with pytest.raises(PlanError, match=r"capability 9\.0 \(it does for 8\.0, 8.*backend='torch'"):
        prepare_plan(bundle_copy, None, 90)
    with pytest.raises(PlanError, match=r"capability 7\.5 cannot run: .* need 8\.0 or higher"):
        prepare_plan(bundle_copy, None, 75)
    assert not (bundle_copy.path / "plans").exists()
    (bundle_copy.path / "plans").write_text("in the way")
    with pytest.raises(PlanError, match=r"plans are stored in .* cannot be written to"):
        prepare_plan(bundle_copy, None, AMPERE)
    (bundle_copy.path / "plans").unlink()
    bundle_copy.network("fp32").write_bytes(b"no network")
    with pytest.raises(PlanError, match=r"cannot read .*network_fp32\.onnx"):
        prepare_plan(bundle_copy, None, AMPERE)


def test_a_build_that_runs_out_of_memory(bundle_copy: Bundle, api: Api) -> None:
    with pytest.raises(DeviceMemoryError) as raised:
        prepare_plan(bundle_copy, GpuOptions(workspace_mb=1), AMPERE)
    told = str(raised.value)
    assert "Raise workspace_mb (--workspace-mb) or lower max_batch (--max-batch)" in told
    (log,) = (bundle_copy.path / "plans").iterdir()
    assert told.endswith(f"The complete log is {log}")
    assert "OutOfMemory" in log.read_text()


def test_an_int8_bundle_wants_its_symmetric_twin(whole_bundle: Bundle, api: Api) -> None:
    whole = whole_bundle
    kept = tuple(e for e in whole.manifest.executions if e.stored == "int8")
    networks = {"int8": whole.manifest.networks["int8"]}
    old = Bundle(whole.path, replace(whole.manifest, executions=kept, networks=networks))
    with pytest.raises(EngineError, match=r"tensorrt: it holds int8\. No network of"):
        prepare_plan(old, None, AMPERE)


def test_words_of_tensorrt_in_errors(api: Api, tmp_path: Path) -> None:
    log = Log(api.module, tmp_path / "log.txt")
    severity = api.module.ILogger.Severity
    log.logger.log(severity.VERBOSE, "chatter")
    log.logger.log(severity.INFO, "news")
    for i in range(60):
        log.logger.log(severity.ERROR, f"complaint {i}")
    error = log.error("it failed")
    assert isinstance(error, PlanError)
    assert str(error) == (
        f"it failed: complaint 57 | complaint 58 | complaint 59. The complete log is "
        f"{tmp_path / 'log.txt'}"
    )
    log.logger.log(severity.ERROR, "Requested size was 5 bytes: Out of memory")
    assert isinstance(log.error("it failed"), DeviceMemoryError)
    log.close()
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert lines[:2] == ["INFO news", "ERROR complaint 0"]


def test_log_of_another_version_stays_as_it_is(api: Api, tmp_path: Path) -> None:
    """It may be the same file on disk."""
    (tmp_path / "released.log").write_text("of its plan")
    (tmp_path / "candidate.log").hardlink_to(tmp_path / "released.log")
    Log(api.module, tmp_path / "candidate.log").close()
    assert (tmp_path / "released.log").read_text() == "of its plan"
    assert (tmp_path / "candidate.log").read_text() == ""


def test_one_logger_for_all(api: Api, tmp_path: Path) -> None:
    """TensorRT goes on with the first logger that it was given, whatever comes later."""
    first, second = Log(api.module), Log(api.module, tmp_path / "log.txt")
    assert first.logger is second.logger
    severity = api.module.ILogger.Severity
    first.logger.log(severity.ERROR, "to both")
    second.close()
    first.logger.log(severity.WARNING, "to the first")
    assert (first.complaints, first.errors) == (["to both", "to the first"], 1)
    assert second.complaints == ["to both"]
    assert (tmp_path / "log.txt").read_text() == "ERROR to both\n"


def test_objects_that_tensorrt_does_not_make(api: Api) -> None:
    """The bindings raise TypeError where a factory of TensorRT's returns null."""
    log = Log(api.module)

    def null(logger: Any) -> Any:
        log.logger.log(api.module.ILogger.Severity.ERROR, "libnvinfer_builder: no such file")
        raise TypeError("pybind11::init(): factory function returned nullptr")

    with pytest.raises(PlanError, match=r"could not create its builder .*nullptr.*no such file"):
        log.made("its builder", null)
    with pytest.raises(EngineError, match="could not create its runtime"):
        log.made("its runtime", null, EngineError)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"max_batch": 0}, "max_batch is 0, wanted an integer, at least 1"),
        ({"optimization_level": 6}, "optimization_level is 6, wanted an integer, 0 to 5"),
        ({"optimization_level": -1}, "optimization_level is -1"),
        ({"device": -1}, "device is -1"),
        ({"workspace_mb": 0}, "workspace_mb is 0"),
        ({"device": "cuda:0"}, "device is 'cuda:0', wanted the index of a GPU as an integer, 0 or"),
        ({"max_batch": "8"}, "max_batch is '8', wanted an integer, at least 1"),
        ({"workspace_mb": 1e3}, "workspace_mb is 1000.0, wanted an integer"),
        ({"optimization_level": True}, "optimization_level is True, wanted an integer"),
    ],
)
def test_options(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        GpuOptions(**options)


@pytest.mark.parametrize(
    ("max_batch", "profiles"),
    [
        (1, [(1, 1, 1)]),
        (2, [(1, 1, 1), (2, 2, 2)]),
        (6, [(1, 1, 1), (2, 6, 6)]),
        (8, [(1, 1, 1), (2, 8, 8)]),
        (9, [(1, 1, 1), (2, 8, 8), (9, 9, 9)]),
        (20, [(1, 1, 1), (2, 8, 8), (9, 20, 20)]),
        (128, [(1, 1, 1), (2, 8, 8), (9, 32, 128)]),
        (200, [(1, 1, 1), (2, 8, 8), (9, 32, 200)]),
    ],
)
def test_profiles(max_batch: int, profiles: list[tuple[int, int, int]]) -> None:
    assert GpuOptions(max_batch=max_batch).profiles == tuple(profiles)
    assert GpuOptions().max_batch == 128


def test_levels_are_of_tensorrt_alone(bundle: Bundle, api: Api) -> None:
    """TensorRT for RTX builds the same plan at each: it is not asked for another in vain."""
    with pytest.raises(PlanError, match=r"optimization_level is 5, and tensorrt-rtx .*the same"):
        prepare_plan(bundle, GpuOptions(optimization_level=5), AMPERE)


class Compiler:
    """Stands for the process that compiles the kernels.

    Attributes:
        called: commands and environments
    """

    def __init__(self, complaint: str = "") -> None:
        self.complaint = complaint
        self.called: list[tuple[list[str], dict[str, str]]] = []

    def __call__(self, command: list[str], env: dict[str, str], **_: Any) -> Any:
        self.called.append((command, env))
        if not self.complaint:
            folder = Path(command[-1])
            folder.mkdir()
            content = {"format": FORMAT, "source_sha256": source_hash(), "kernels": []}
            (folder / "kernels.json").write_text(json.dumps(content))
        return subprocess.CompletedProcess(command, bool(self.complaint), "", self.complaint)


def test_kernels_are_compiled_in_a_process_of_its_own(
    bundle_copy: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rdx_fast.kernels.gpu.library.BUILT", tmp_path / "none")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    failing = Compiler("error: kernels spill registers\n")
    monkeypatch.setattr("rdx_fast.engines.tensorrt.build.subprocess.run", failing)
    with pytest.raises(EngineError, match=r"could not compile .*kernels: kernels spill registers$"):
        prepare_kernels(bundle_copy)
    compiler = Compiler()
    monkeypatch.setattr("rdx_fast.engines.tensorrt.build.subprocess.run", compiler)
    folder = bundle_copy.path / "kernels"
    assert prepare_kernels(bundle_copy) == prepare_kernels(bundle_copy) == folder
    ((command, environment),) = compiler.called
    assert command[-3:] == ["-m", "rdx_fast.kernels.aot", str(folder)]
    assert "TRITON_INTERPRET" not in environment
    assert environment["PATH"] == os.environ["PATH"]
    signing = SigningKey.read(keys(tmp_path, "quality")[0])
    wanting = replace(bundle_copy, public_key=signing.public)
    with pytest.raises(BundleError, match=r"kernels\.json is not signed"):
        prepare_kernels(wanting)
    signing.sign_made(folder / "kernels.json")
    assert prepare_kernels(wanting) == folder


@pytest.mark.slow
def test_kernels_are_compiled_into_the_bundle(
    bundle_copy: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rdx_fast.kernels.gpu.library.BUILT", tmp_path / "none")
    folder = prepare_kernels(bundle_copy)
    assert KernelLibrary(folder, AMPERE, cuda=99000).architecture == AMPERE


def test_tensorrt_for_rtx_is_asked_for(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if the other TensorRT is installed, which builds for this machine's GPU alone."""
    monkeypatch.setitem(sys.modules, "tensorrt", ModuleType("tensorrt"))
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    assert not load_api().rtx
    with pytest.raises(MissingDependencyError, match=r'tensorrt_rtx.*install .*\[tensorrt-rtx\]"'):
        prepare_plan(bundle, None, AMPERE)


def test_a_path_is_no_bundle(bundle: Bundle) -> None:
    with pytest.raises(TypeError, match=r"wanted an opened bundle: open_engine\(open_bundle\("):
        open_engine(str(bundle.path), "tensorrt")  # type: ignore[arg-type]


@needs_no_gpu
def test_without_a_gpu(bundle: Bundle) -> None:
    for backend in ("tensorrt", "torch"):
        with pytest.raises(NoDriverError, match="backend='openvino'"):
            Detector(bundle.path, backend)
    with pytest.raises(NoDriverError) as raised:
        prepare_plan(bundle)
    assert "--compute-capability X.Y (TensorRT for RTX), or run this on the" in str(raised.value)
    assert "openvino" not in str(raised.value)
    with Detector(bundle.path) as detector:  # "auto" has looked, and says what it took
        assert "openvino" in detector.description
    with pytest.raises(ValueError, match="threads and mode are for CPUs"):
        open_engine(bundle, "tensorrt", threads=2)
    with pytest.raises(ValueError, match="gpu options are for GPUs"):
        open_engine(bundle, "openvino", gpu=GpuOptions())
    assert issubclass(NoDriverError, EngineError)
