"""Does this BPF object load on those kernels? Answers from files: no kernel, no root, no network.

A Run resolves the CO-RE relocations of all its objects on all its kernels as libbpf does, bit for bit. Ask it for
verdicts (check), records (resolve), relocated files (relocate) or lists of patches (patches): each gives Rows, a
sequence of dicts that is also a table for Arrow and pandas. docs/output.md of the project says what the columns mean.
"""

from ._engine import Kernel, Rows, Run, __version__
from ._error import Error

__all__ = ["Error", "Kernel", "Rows", "Run", "__version__"]
