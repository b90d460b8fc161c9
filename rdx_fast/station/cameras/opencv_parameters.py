"""Parameters of cameras that OpenCV opens."""

from __future__ import annotations

import math
from collections.abc import Mapping

from rdx_fast.errors import MissingDependencyError
from rdx_fast.station.cameras.source import CameraError
from rdx_fast.station.settings import Parameter

try:
    import cv2
except ModuleNotFoundError as _error:
    if _error.name != "cv2":
        raise
    raise MissingDependencyError("opencv-python-headless", "OpenCV cameras", "opencv") from None

# In the order in which they are set: a camera takes a value only while its automatic mode is off.
_PROPERTIES = {
    "width": cv2.CAP_PROP_FRAME_WIDTH,
    "height": cv2.CAP_PROP_FRAME_HEIGHT,
    "fps": cv2.CAP_PROP_FPS,
    "auto_exposure": cv2.CAP_PROP_AUTO_EXPOSURE,
    "auto_white_balance": cv2.CAP_PROP_AUTO_WB,
    "autofocus": cv2.CAP_PROP_AUTOFOCUS,
    "exposure": cv2.CAP_PROP_EXPOSURE,
    "exposure_us": cv2.CAP_PROP_EXPOSURE,
    "gain": cv2.CAP_PROP_GAIN,
    "brightness": cv2.CAP_PROP_BRIGHTNESS,
    "contrast": cv2.CAP_PROP_CONTRAST,
    "saturation": cv2.CAP_PROP_SATURATION,
    "sharpness": cv2.CAP_PROP_SHARPNESS,
    "gamma": cv2.CAP_PROP_GAMMA,
    "white_balance": cv2.CAP_PROP_WB_TEMPERATURE,
    "focus": cv2.CAP_PROP_FOCUS,
}
# V4L2's unit of exposure is 100 microseconds; other backends have units of their own.
_EXPOSURE_UNIT_US = 100.0
# A camera has steps: what it reads back may differ by so much.
_STEP = 0.01


def set_parameters(
    capture: cv2.VideoCapture, parameters: Mapping[str, Parameter]
) -> dict[str, float]:
    """Set parameters, and read them back when all are set.

    Args:
        capture: the opened camera
        parameters: values by name; units and ranges are those of the camera's driver, but for
            ``exposure_us``, which is in microseconds and needs the backend V4L2

    Returns:
        The values that the camera has now.

    Raises:
        CameraError: a name is unknown, a value is no number, or the camera has another value now
    """
    if unknown := sorted(parameters.keys() - _PROPERTIES.keys()):
        raise CameraError(
            f"unknown camera parameters: {', '.join(unknown)}: wanted some of "
            f"{', '.join(_PROPERTIES)}"
        )
    if {"exposure", "exposure_us"} <= parameters.keys():
        raise CameraError("both exposure and exposure_us are set: give one of them")
    wanted: dict[str, float] = {}
    for name in sorted(parameters, key=list(_PROPERTIES).index):
        value = parameters[name]
        if isinstance(value, str):
            raise CameraError(f"camera parameter {name} is {value!r}, wanted a number")
        wanted[name] = float(value)
    units = {name: _unit(capture, name) for name in wanted}
    taken = {n: capture.set(_PROPERTIES[n], value / units[n]) for n, value in wanted.items()}
    found = {name: capture.get(_PROPERTIES[name]) * units[name] for name in wanted}
    for name, value in wanted.items():
        if not taken[name] or not math.isclose(found[name], value, rel_tol=_STEP):
            raise CameraError(
                f"the camera does not take {name} = {value:g}, it has {found[name]:g}: choose a "
                f"value that it has, or leave {name} out"
            )
    return found


def _unit(capture: cv2.VideoCapture, name: str) -> float:
    """What 1 in the unit of OpenCV is in the unit of the parameter."""
    if name != "exposure_us":
        return 1.0
    backend = capture.getBackendName()
    if backend != "V4L2":
        raise CameraError(
            f"exposure_us needs the backend V4L2, and the camera was opened by {backend}: set "
            f"exposure, in the unit of that backend"
        )
    return _EXPOSURE_UNIT_US
