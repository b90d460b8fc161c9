"""rdx_fast: visual anomaly detection by reverse distillation, in milliseconds.

from rdx_fast import Detector

with Detector("part.rdx") as detector:
    result = detector.score(frame)
"""

from rdx_fast.bundle.bundle import Bundle, open_bundle
from rdx_fast.defects import Defect, find_defects, frame_map
from rdx_fast.detector import Detector
from rdx_fast.engines import GpuOptions, open_engine
from rdx_fast.errors import RdxError
from rdx_fast.kernels.threshold_regions import Region, threshold_regions
from rdx_fast.recipe.tiling import TileSpec
from rdx_fast.result import Result

__version__ = "0.1.0"

__all__ = [
    "Bundle",
    "Defect",
    "Detector",
    "GpuOptions",
    "RdxError",
    "Region",
    "Result",
    "TileSpec",
    "__version__",
    "find_defects",
    "frame_map",
    "open_bundle",
    "open_engine",
    "threshold_regions",
]
