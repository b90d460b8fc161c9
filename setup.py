"""Build of rdx_fast: three top-level folders install under the package, and ``rdx_fast._C``.

``RDX_FAST_NATIVE``: unset builds the extension if a compiler is there, 1 fails without one, 0
leaves it out.
"""

import os
import sys

from pybind11.setup_helpers import Pybind11Extension
from setuptools import find_packages, setup
from setuptools.command.build_ext import build_ext

NATIVE = os.environ.get("RDX_FAST_NATIVE", "")
if NATIVE not in ("", "0", "1"):
    raise SystemExit(f"RDX_FAST_NATIVE is {NATIVE!r}: leave it unset, or set 0 or 1")

INSTALLED_AS = {
    "kernels": "rdx_fast.kernels",
    "export": "rdx_fast.export",
    "bench": "rdx_fast.bench",
}


class BuildExtension(build_ext):
    def run(self) -> None:
        super().run()
        if os.path.exists(self.get_ext_fullpath("rdx_fast._C")):
            # Also into the checkout, so that Python started there finds it.
            self.copy_extensions_to_source()


extension = Pybind11Extension(
    "rdx_fast._C",
    ["csrc/module.cpp", "csrc/resize_normalize.cpp"],
    include_dirs=["csrc"],
    depends=["csrc/resize_normalize.hpp"],
    cxx_std=17,
    extra_compile_args=["/O2"] if sys.platform == "win32" else ["-O3", "-Wall", "-Wextra"],
    optional=NATIVE != "1",
)

setup(
    packages=find_packages(include=["rdx_fast", "rdx_fast.*"]) + list(INSTALLED_AS.values()),
    package_dir={name: folder for folder, name in INSTALLED_AS.items()},
    ext_modules=[] if NATIVE == "0" else [extension],
    cmdclass={"build_ext": BuildExtension},
)
