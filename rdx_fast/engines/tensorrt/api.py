"""The packages ``tensorrt`` and ``tensorrt_rtx``: one API, imported only here."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from rdx_fast.errors import DeviceMemoryError, EngineError, MissingDependencyError, PlanError
from rdx_fast.kernels.gpu.launch import BASELINE

_KEPT = 50  # messages kept for a later error


class Api(NamedTuple):
    """The installed TensorRT package.

    Attributes:
        module: the module ``tensorrt`` or ``tensorrt_rtx``
        rtx: whether it is TensorRT for RTX, which builds a plan for a compute capability (not for
            one GPU and driver) and completes it on the GPU when it first runs
    """

    module: Any
    rtx: bool

    @property
    def name(self) -> str:
        return f"{'tensorrt-rtx' if self.rtx else 'tensorrt'} {self.module.__version__}"

    def check(self, compute_capability: int) -> None:
        """Check that plans for a GPU can be built, and run between our kernels.

        Args:
            compute_capability: of the GPU, 90 for 9.0

        Raises:
            PlanError: this package builds no plans for it, or the kernels do not run on it
        """
        if compute_capability < BASELINE:
            raise PlanError(
                f"a plan for compute capability {compute_capability / 10:.1f} cannot run: the "
                f"kernels before and after it need {BASELINE / 10:.1f} or higher: use a newer GPU, "
                f"or the CPU with backend='openvino'"
            )
        capabilities = self.module.ComputeCapability.__members__ if self.rtx else {}
        if self.rtx and f"SM{compute_capability}" not in capabilities:
            known = sorted(int(name[2:]) for name in capabilities if name.startswith("SM"))
            words = ", ".join(f"{one / 10:.1f}" for one in known if one >= BASELINE)
            raise PlanError(
                f"TensorRT for RTX {self.module.__version__} builds no plans for compute "
                f"capability {compute_capability / 10:.1f} (it does for {words}): "
                f"install the package tensorrt on the machine with that GPU, or use backend='torch'"
            )


def load_api(rtx: bool = False) -> Api:
    """Import whichever package is installed, ``tensorrt`` first.

    Args:
        rtx: import TensorRT for RTX, even if ``tensorrt`` is installed too

    Raises:
        MissingDependencyError: there is none
        EngineError: the package is installed but cannot be loaded
    """
    for name in ("tensorrt_rtx",) if rtx else ("tensorrt", "tensorrt_rtx"):
        try:
            module = import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
            continue
        except (ImportError, OSError) as error:
            raise EngineError(
                f"the package {name} is installed but cannot be loaded ({error}): reinstall it"
            ) from error
        return Api(module, name == "tensorrt_rtx")
    if rtx:
        raise MissingDependencyError(
            "tensorrt_rtx", "a plan for a compute capability", "tensorrt-rtx"
        )
    raise MissingDependencyError("tensorrt", "backend='tensorrt'", "tensorrt")


class Log:
    """Collects TensorRT's messages: the last warnings and errors, and optionally all in a file.

    Safe to use from several threads. TensorRT knows one logger in a process: it passes each message
    on to every ``Log`` that is open.

    Args:
        trt: the module ``tensorrt`` or ``tensorrt_rtx``
        file: of a build: text file for all messages but verbose ones, which errors name; None for
            no file

    Attributes:
        logger: the logger to pass to TensorRT
        complaints: the latest warnings and errors, oldest first
        errors: the number of errors so far
    """

    def __init__(self, trt: Any, file: Path | None = None) -> None:
        self.complaints: list[str] = []
        self.errors = 0
        self._lock = threading.Lock()
        self._file = file
        if file is not None:  # not in place: versions of a bundle share their files by hard links
            file.unlink(missing_ok=True)
        self._stream = None if file is None else file.open("w", encoding="utf-8")
        self.logger = _logger(trt)
        _OPEN.add(self)

    def write(self, severity: str, message: str) -> None:
        """Keep a message, by the name of its severity."""
        with self._lock:
            if self._stream is not None:
                self._stream.write(f"{severity} {message}\n")
            if severity in _SERIOUS:
                self.complaints = [*self.complaints[1 - _KEPT :], message]
                self.errors += severity != "WARNING"

    def made(
        self, what: str, kind: Callable[[Any], Any], error: type[EngineError] = PlanError
    ) -> Any:
        """One of TensorRT's objects that want a logger; ``what`` names it in the error.

        Raises:
            EngineError: of type ``error``, if TensorRT gives none, as where one of its libraries is
                missing
        """
        try:
            return kind(self.logger)
        except TypeError as null:  # how the bindings say that the pointer is null
            raise self.error(f"TensorRT could not create {what} ({null})", error) from null

    def given(self, what: str, thing: Any, error: type[EngineError] = PlanError) -> Any:
        """``thing``, unless it is the None that TensorRT gives where it could not create ``what``.

        Raises:
            EngineError: of type ``error``
        """
        if thing is None:
            raise self.error(f"TensorRT could not create {what}", error)
        return thing

    def error(self, what: str, kind: type[EngineError] = PlanError) -> EngineError:
        """An error for the failure ``what`` with TensorRT's last messages: of type ``kind``, or a
        ``DeviceMemoryError`` if they report that memory ran out."""
        text = " | ".join(self.complaints[-3:]) or "no message"
        log = "" if self._file is None else f". The complete log is {self._file}"
        # TensorRT for RTX names the error code, "OutOfMemory".
        if not any("outofmemory" in m.lower().replace(" ", "") for m in self.complaints):
            return kind(f"{what}: {text}{log}")
        if self._file is None:
            return DeviceMemoryError(
                f"{what}: the GPU's memory is full ({text}). Use smaller batches or fewer "
                f"Detectors at a time"
            )
        return DeviceMemoryError(
            f"{what}: memory ran out in the build ({text}). Raise workspace_mb (--workspace-mb) or "
            f"lower max_batch (--max-batch){log}"
        )

    def close(self) -> None:
        _OPEN.discard(self)
        with self._lock:
            if self._stream is not None:
                self._stream.close()
                self._stream = None


_SERIOUS = ("INTERNAL_ERROR", "ERROR", "WARNING")
_OPEN: weakref.WeakSet[Log] = weakref.WeakSet()


@cache
def _logger(trt: Any) -> Any:
    """The process's logger: with a second one, TensorRT warns and goes on with the first."""
    verbose = trt.ILogger.Severity.VERBOSE

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity != verbose:
                for log in list(_OPEN):
                    log.write(severity.name, message)

    return Logger()
