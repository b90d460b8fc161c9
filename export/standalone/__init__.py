"""The whole inspection of a bundle in one ONNX file, for programs without Python."""

from rdx_fast.export.standalone.frame import FrameFormat
from rdx_fast.export.standalone.inspection import VERDICTS
from rdx_fast.export.standalone.writer import write_standalone

__all__ = ["VERDICTS", "FrameFormat", "write_standalone"]
