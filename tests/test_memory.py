"""What the process does with the memory it frees."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource
import numpy as np
from stylenat.runtime import keep_freed_memory

keep_freed_memory()
np.ones(8 << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(8 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_freed_memory_is_used_again():
    """64 MB fresh from the system would be 16,384 page faults."""
    faults = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    assert int(faults.stdout) < 1000
