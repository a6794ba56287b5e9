"""Memory that a step frees is there for the next one."""

import platform
import subprocess
import sys

import pytest

# Two blocks of 40 MB at a time, 20 times: what is kept is faulted in once, in 10,240 pages a block.
PROBE = """
import resource
from attar.accel.allocator import keep_freed_memory
if {keep}:
    assert keep_freed_memory()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for step in range(20):
    if step == 5:
        before = faults()
    blocks = [b"x" * (40 * 2**20) for _ in range(2)]
    del blocks
print(faults() - before)
"""


def faults(keep: bool) -> int:
    run = subprocess.run([sys.executable, "-c", PROBE.format(keep=keep)], check=True, capture_output=True, text=True)
    return int(run.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told")
def test_freed_memory_is_not_faulted_in_again():
    assert faults(keep=True) < 500 < faults(keep=False) / 20
