"""What the figures were measured on."""

from __future__ import annotations

import mmap
import os
import platform
from pathlib import Path


def describe() -> dict[str, str]:
    memory = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    return {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{int(memory['MemTotal'].split()[0]) / 2**20:.1f} GiB",
        "swap": f"{int(memory['SwapTotal'].split()[0]) / 2**20:.1f} GiB",
        "kernel": platform.release(),
        "libc": " ".join(platform.libc_ver()),
        "/dev/shm": mount(Path("/dev/shm")),
        "huge pages for shared memory": _setting("/sys/kernel/mm/transparent_hugepage/shmem_enabled"),
        "huge pages for private memory": _setting("/sys/kernel/mm/transparent_hugepage/enabled"),
        "free memory goes back to the host": "yes" if Path("/sys/module/page_reporting").exists() else "no",
        "governor": _setting("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
    }


def ready(nbytes: int) -> None:
    """
    Touches so much free memory and gives it back.

    A virtual machine's host may take free memory away after some seconds. Who is the first to use it again waits for
    the host, at each page, whatever program it is.
    """
    length = max(mmap.PAGESIZE, nbytes)
    with mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        # Huge ones, so that it can be used for those again.
        memory.madvise(mmap.MADV_HUGEPAGE)
        for page in range(0, length, mmap.PAGESIZE):
            memory[page] = 1


def load() -> float:
    """Processes that want to run, on average over the last minute."""
    return os.getloadavg()[0]


def _processor() -> str:
    pairs = (line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines())
    fields = {name.strip(): value.strip() for name, _, value in pairs}
    model = f"family {fields.get('cpu family')} model {fields.get('model')}"
    hypervisor = ", virtual" if "hypervisor" in fields.get("flags", "").split() else ""
    return f"{fields.get('model name', platform.machine())} ({model}{hypervisor})"


def mount(folder: Path) -> str:
    """The file system that a folder is in, and its options."""
    folder = folder.resolve()
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    holding = [fields for fields in mounts if folder.is_relative_to(fields[1])]
    _, _, kind, options, *_ = max(holding, key=lambda fields: len(fields[1]))
    return f"{kind} {options}"


def _setting(path: str) -> str:
    try:
        text = Path(path).read_text().strip()
    except OSError:
        return "not there"
    # The kernel shows a choice as `always [madvise] never`.
    return text[text.index("[") + 1 : text.index("]")] if "[" in text else text
