"""Times the main job as a user runs it: cold, with a warm compilation cache, again, and seed by seed.

    python benchmarks/main_job.py

Prints a table and writes benchmarks/results/main_job.json. Wall-clock seconds of whole processes, one run of each but
for the last two, which take the minimum of three.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import record


def timed(*arguments: str, cache: Path) -> float:
    environment = os.environ | {"XDG_CACHE_HOME": str(cache)}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    begun = time.monotonic()
    subprocess.run([sys.executable, "-m", "jaxprune", *arguments], env=environment, check=True, capture_output=True)
    return time.monotonic() - begun


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    out = record.out_file("main_job")
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        seconds = {
            "main job, cold": [timed("run", "--out", str(base / "cold"), cache=base / "cache")],
            "main job, warm compilation cache": [timed("run", "--out", str(base / "warm"), cache=base / "cache")],
            "main job, run again": [timed("run", "--out", str(base / "warm"), cache=base / "cache") for _ in range(3)],
            "jaxprune --help": [timed("--help", cache=base / "cache") for _ in range(3)],
        }
        # Training only (dense, plain), so that the report is not counted five times.
        train = ("train", "--retrain.methods", "none")
        together = timed(*train, "--out", str(base / "together"), cache=base / "cache-a")
        apart = sum(
            timed(*train, "--seeds", "1", "--first_seed", str(seed), "--out", str(base / f"seed{seed}"),
                  cache=base / f"cache-b{seed}")
            for seed in range(5)
        )  # fmt: skip
        seconds["dense training, 5 seeds as one program, cold"] = [together]
        seconds["dense training, 5 seeds one by one, cold"] = [apart]
    for name, values in seconds.items():
        print(f"{name:48} {min(values):7.2f} s")
    print(f"{'one program / one by one':48} {together / apart:7.2f}")
    record.write(out, {name: record.spread(values) for name, values in seconds.items()})


if __name__ == "__main__":
    main()
