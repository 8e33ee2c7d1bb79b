"""How a CPU's libraries are told to round alike on every x86-64 processor with AVX2.

Each library of numbers looks at the processor and takes its fastest kernel, and kernels add in
different orders. Four environment variables, read when the libraries are loaded, fix the choice:

- ATen, torch's own kernels: those compiled for AVX2. The same instructions run wherever AVX2 is,
  and IEEE 754 says what each of them rounds to.
- MKL: its path that Intel promises to be the same on all processors, of any vendor. (The one for
  AVX2 is faster, but another one on AMD's.)
- OpenBLAS, which NumPy multiplies matrices with: the kernels and block sizes made for Haswell, in
  one thread. They make up for MKL's slow ones: see `tradeoff.networks.cpu_kernels`.
- NumPy: nothing beyond AVX2.

This module imports neither of them, so that a stage can set the variables before anything else.
"""

import os
from collections.abc import MutableMapping

from tradeoff.core.settings import Arithmetic

SWITCHES = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_CBWR": "COMPATIBLE",
    "OPENBLAS_CORETYPE": "Haswell",
    "OPENBLAS_NUM_THREADS": "1",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
}


def switch(arithmetic: Arithmetic, environment: MutableMapping[str, str] = os.environ) -> None:
    """Set the variables, or for native arithmetic take back what this function has set."""
    for name, value in SWITCHES.items():
        if arithmetic == "portable":
            environment[name] = value
        elif environment.get(name) == value:
            del environment[name]
