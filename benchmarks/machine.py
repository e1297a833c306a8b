"""Facts about the machine and what is installed, without importing any of it."""

import os
import pathlib
import platform
import shutil
import subprocess
import time
from importlib import metadata
from typing import Any

PACKAGES = (
    "tensorflow",
    "keras",
    "jax",
    "torch",
    "numpy",
    "scipy",
    "pillow",
    "tensorflow-gan",
    "tensorflow-probability",
)
# What decides the speed of convolutions in bfloat16 on a CPU.
INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


def facts() -> dict[str, Any]:
    """CPU, cores, GPUs, versions, date, commit, and the load that others put on the machine."""
    model, instructions = _cpu()
    return {
        "cpu": model,
        "instructions": instructions,
        "cores": _cores(),
        "gpus": _output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader").splitlines(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "load": round(os.getloadavg()[0], 2),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
        "commit": _output("git", "rev-parse", "--short", "HEAD") or "unknown",
        "date": time.strftime("%Y-%m-%d"),
    }


def _cpu() -> tuple[str, list[str]]:
    path = pathlib.Path("/proc/cpuinfo")
    if not path.is_file():
        return platform.processor() or platform.machine(), []
    lines = [line.partition(":") for line in path.read_text(encoding="utf-8").splitlines()]
    found = {name.strip(): value.strip() for name, _, value in lines}
    flags = found.get("flags", "").split()
    return found.get("model name", platform.machine()), [x for x in INSTRUCTIONS if x in flags]


def _cores() -> int:
    """Logical cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _output(*command: str) -> str:
    """What a command prints; nothing where it is missing or fails."""
    if shutil.which(command[0]) is None:
        return ""
    root = pathlib.Path(__file__).resolve().parent.parent
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""
