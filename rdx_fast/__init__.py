"""rdx_fast: visual anomaly detection by reverse distillation, in milliseconds.

from rdx_fast import Detector

with Detector("part.rdx") as detector:
    result = detector.score(frame)
"""

from pathlib import Path as _Path

_root = _Path(__file__).resolve().parent.parent
if (_root / "setup.py").is_file() and (_root / "kernels").is_dir():
    # Imported from a checkout: kernels, export and bench lie beside this folder.
    __path__.append(str(_root))

from rdx_fast.bundle import Bundle, open_bundle  # noqa: E402
from rdx_fast.detector import Detector  # noqa: E402
from rdx_fast.engines import GpuOptions, open_engine  # noqa: E402
from rdx_fast.errors import RdxError  # noqa: E402
from rdx_fast.kernels.threshold_regions import Region, threshold_regions  # noqa: E402
from rdx_fast.result import Result  # noqa: E402

__version__ = "0.1.0"

__all__ = [
    "Bundle",
    "Detector",
    "GpuOptions",
    "RdxError",
    "Region",
    "Result",
    "__version__",
    "open_bundle",
    "open_engine",
    "threshold_regions",
]
