"""Machine code: kernels that numba compiles once on a machine, loaded without numba from then on.

Importing numba and reading its own cache takes 0.3 s and 38 MiB, and longer on a small machine; all that a reply needs
of it is the code that it made. So numba runs in processes of their own, what they made is kept in a file, and llvmlite
links it into this process. It knows nothing of llama.cpp: what it calls there, it is handed the address of.
"""

from .cache import can_keep
from .scratch import Scratch, give_back, scratch
from .unit import KERNELS, TAP, Unit, prepare

__all__ = ["KERNELS", "TAP", "Scratch", "Unit", "can_keep", "give_back", "prepare", "scratch"]
