"""Build of rdx_fast, and of its extension ``rdx_fast._C``.

``RDX_FAST_NATIVE``: unset builds the extension if a compiler is there, 1 fails without one, 0
leaves it out.
"""

import os
import platform
import shutil
import sys
from glob import glob

from pybind11.setup_helpers import Pybind11Extension
from setuptools import find_packages, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

NATIVE = os.environ.get("RDX_FAST_NATIVE", "")
if NATIVE not in ("", "0", "1"):
    raise SystemExit(f"RDX_FAST_NATIVE is {NATIVE!r}: leave it unset, or set 0 or 1")

for folder in ("kernels", "export", "bench"):
    if not os.path.isfile(f"rdx_fast/{folder}/__init__.py"):
        raise SystemExit(
            f"rdx_fast/{folder} is no link to {folder}/: this checkout was made without symbolic "
            f"links. Clone again where links are supported (git clone -c core.symlinks=true)"
        )

X86 = platform.machine().lower() in ("x86_64", "amd64") and sys.platform != "win32"
AVX2 = ["-mavx2", "-mfma", "-mf16c"]
# The inner loops are compiled once for each instruction set; which one runs is chosen at run time.
ISA_FLAGS = {"portable": []}
if X86:
    AVX512 = [*AVX2, "-mavx512f", "-mavx512bw", "-mavx512vl"]
    # GCC 12 finds uninitialised variables in its own AVX-512 header.
    ISA_FLAGS |= {"avx2": AVX2, "avx512": [*AVX512, "-Wno-maybe-uninitialized"]}
INNER_LOOPS = sorted(glob("csrc/*.simd.cpp"))


class BuildPackage(build_py):
    def run(self) -> None:
        if not self.editable_mode:
            # Modules that an earlier build left there, and that are gone since, would be installed.
            shutil.rmtree(os.path.join(self.build_lib, "rdx_fast"), ignore_errors=True)
        super().run()


class BuildExtension(build_ext):
    def build_extension(self, ext: Pybind11Extension) -> None:
        for isa, flags in ISA_FLAGS.items():
            ext.extra_objects += self.compiler.compile(
                INNER_LOOPS,
                output_dir=os.path.join(self.build_temp, isa),
                macros=[("RDX_ISA", isa)],
                include_dirs=["csrc"],
                extra_postargs=[*ext.extra_compile_args, *flags],
                depends=ext.depends,
            )
        super().build_extension(ext)

    def run(self) -> None:
        super().run()
        if os.path.exists(self.get_ext_fullpath("rdx_fast._C")):
            # Also into the checkout, so that Python started there finds it.
            self.copy_extensions_to_source()


extension = Pybind11Extension(
    "rdx_fast._C",
    sorted(set(glob("csrc/*.cpp")) - set(INNER_LOOPS)),
    include_dirs=["csrc"],
    depends=sorted({*glob("csrc/*.hpp"), *INNER_LOOPS}),
    cxx_std=17,
    define_macros=[("RDX_X86", None)] if X86 else [],
    extra_compile_args=["/O2"] if sys.platform == "win32" else ["-O3", "-Wall", "-Wextra"],
    optional=NATIVE != "1",
)

setup(
    packages=find_packages(include=["rdx_fast", "rdx_fast.*"]),
    ext_modules=[] if NATIVE == "0" else [extension],
    cmdclass={"build_py": BuildPackage, "build_ext": BuildExtension},
)
