"""What the driver says, as exceptions. Nothing here runs on a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rdx_fast.devices.cuda import strided_view
from rdx_fast.errors import (
    DeviceLostError,
    DeviceMemoryError,
    DriverTooOldError,
    EngineError,
    NoDriverError,
)
from rdx_fast.kernels.gpu import driver
from rdx_fast.kernels.gpu.driver import Gpu, bindings, check_version, driver_version, error_of
from support.checkout import needs_no_gpu


@pytest.mark.parametrize(
    ("status", "kind", "advice"),
    [
        ("CUDA_ERROR_NO_DEVICE", NoDriverError, "nvidia-smi"),
        ("CUDA_ERROR_STUB_LIBRARY", NoDriverError, "backend='openvino'"),
        ("CUDA_ERROR_UNSUPPORTED_PTX_VERSION", DriverTooOldError, r"newer NVIDIA driver .*12\.8"),
        ("CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", DriverTooOldError, "newer NVIDIA driver"),
        ("CUDA_ERROR_OUT_OF_MEMORY", DeviceMemoryError, "smaller batches"),
        ("CUDA_ERROR_ILLEGAL_ADDRESS", DeviceLostError, "no GPU again"),
        ("CUDA_ERROR_ECC_UNCORRECTABLE", DeviceLostError, "Xid"),
        ("CUDA_ERROR_LAUNCH_FAILED", DeviceLostError, "start a new one"),
        ("CUDA_ERROR_INVALID_VALUE", EngineError, "its own words"),
    ],
)
def test_errors_by_name(status: str, kind: type[EngineError], advice: str) -> None:
    error = error_of("cuSomething", status, "its own words")
    assert type(error) is kind
    assert "cuSomething" in str(error)
    assert status in str(error)
    with pytest.raises(kind, match=advice):
        raise error


def test_all_names_are_the_drivers_own() -> None:
    known = {name.removeprefix("CUDA_ERROR_") for name in bindings().CUresult.__members__}
    assert known >= driver._NO_DRIVER | driver._TOO_OLD | driver._LOST


def test_every_function_that_is_called_exists() -> None:
    source = (
        Path(driver.__file__).read_text()
        + Path(driver.__file__).with_name("library.py").read_text()
    )
    names = {word for word in source.replace('"', " ").split() if word.startswith("cu")}
    called = {name for name in names if name[2:3].isupper() and name.isalnum()}
    assert len(called) > 25
    assert all(hasattr(bindings(), name) for name in called)


def test_views_of_arrays_of_other_libraries() -> None:
    pixels = torch.arange(2 * 3 * 4 * 3, dtype=torch.uint8).reshape(2, 3, 4, 3)[:, :, 1:]
    view = strided_view(pixels, -1)  # -1: in host memory there is nothing to wait for
    assert (view.ptr, view.shape, view.strides) == (
        pixels.data_ptr(),
        (2, 3, 3, 3),
        pixels.stride(),
    )
    assert view.dtype == "uint8"
    assert not view.is_device_accessible

    class Old:
        def __init__(self) -> None:
            described = {"shape": (4,), "typestr": "|u1", "data": (0x7000, False), "version": 2}
            self.__cuda_array_interface__ = described

    with pytest.raises(ValueError, match="the Old on the GPU cannot be used"):
        strided_view(Old(), 0)


def test_versions(tmp_path: Path) -> None:
    assert check_version(13000) == 13000
    with pytest.raises(DriverTooOldError, match=r"supports CUDA 12\.4, 12\.8 or later is wanted"):
        check_version(12040)
    file = tmp_path / "version"
    assert driver_version(13000, file) == "CUDA 13.0"
    file.write_text("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release\n")
    assert driver_version(13010, file) == "580.65.06, CUDA 13.1"
    file.write_text("")
    assert driver_version(12080, file) == "CUDA 12.8"


@needs_no_gpu
def test_no_driver() -> None:
    with pytest.raises(NoDriverError, match=r"driver is not installed|NO_DEVICE|STUB"):
        Gpu()


@pytest.mark.gpu
def test_on_the_gpu() -> None:
    with pytest.raises(EngineError, match=r"GPU 99 was asked for, this machine has \d+"):
        Gpu(99)
    with Gpu() as gpu, gpu.current():
        assert gpu.name == torch.cuda.get_device_name(0)
        free, total = driver.call("cuMemGetInfo")
        assert 0 < free <= total
        with pytest.raises(DeviceMemoryError, match="OUT_OF_MEMORY"):
            driver.Stream().allocate(2 * total)
        stream = driver.Stream()
        given, given_at = stream.pinned((1000,), "int32")
        back, back_at = stream.pinned((1000,), "int32")
        there = stream.allocate(4000)
        given[:] = range(1000)

        def steps() -> None:
            stream.fill(there, 0xFF, 4000)
            stream.copy(there, given_at, 2000)
            stream.copy(back_at, there, 4000)

        replay = stream.capture(steps)
        back[:] = 0
        replay()
        stream.wait()
        assert back.tolist() == [*range(500), *[-1] * 500]
        stream.close()
