"""One case in this process: python -m benchmarks.case MODULE:FUNCTION [ARGUMENTS] [FILE]

ARGUMENTS is a JSON object. Prints the measurement as JSON, or writes it to FILE. Other sizes than those of
`benchmarks.run` are tried with it.
"""

import importlib
import json
import pathlib
import resource
import sys


def main(target: str, arguments: str = "{}", file: str | None = None) -> None:
    """Calls the function of a module in `benchmarks` and adds the peak memory."""
    module, _, name = target.partition(":")
    function = getattr(importlib.import_module(f"benchmarks.{module}"), name)
    result = function(**json.loads(arguments))._asdict()
    text = json.dumps(result | {"peak_mib": result["peak_mib"] or peak_mib()})
    if file:
        pathlib.Path(file).write_text(text, encoding="utf-8")
    else:
        print(text)


def peak_mib() -> float:
    """Largest resident memory in MiB of this process or any one that it started."""
    units_per_mib = 2**20 if sys.platform == "darwin" else 2**10  # macOS counts bytes, Linux KiB
    own, started = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    status = pathlib.Path("/proc/self/status")
    if status.is_file():  # Linux's getrusage begins with the memory of the process that started this one
        (own,) = (int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return max(own, started) / units_per_mib


if __name__ == "__main__":
    main(*sys.argv[1:])
