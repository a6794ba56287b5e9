"""Memory that a step frees is there for the next one."""

import platform
import subprocess
import sys

import pytest

from attar.accel import allocator

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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has the setting")
def test_freed_memory_is_not_faulted_in_again():
    assert faults(keep=True) < 500 < faults(keep=False) / 20


# Freed blocks (64 of 1 MB) stay with the process until they are released; the last one keeps the heap from shrinking.
RELEASED = """
import os
from attar.accel.allocator import keep_freed_memory, release_freed_memory
resident = lambda: int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20
assert keep_freed_memory()
blocks = [b"x" * 2**20 for _ in range(64)]
held = blocks.pop()
before = resident()
del blocks
kept = resident()
assert release_freed_memory()
print(before - kept, before - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps memory")
def test_freed_memory_is_released_when_it_is_asked_for():
    run = subprocess.run([sys.executable, "-c", RELEASED], check=True, capture_output=True, text=True)
    kept, released = map(int, run.stdout.split())
    assert kept < 8
    assert released > 48


def test_another_c_library_has_nothing_to_release(monkeypatch):
    monkeypatch.setattr(allocator.platform, "libc_ver", lambda: ("", ""))
    assert not allocator.release_freed_memory()
