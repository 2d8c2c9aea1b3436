"""Run one part of the check in this process; :mod:`benchmarks.gpu_check.__main__` starts these."""

import argparse
import logging
from importlib import import_module
from pathlib import Path

import torch

from benchmarks.gpu_check.check import Check
from stylenat import runtime


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("name")
    options.add_argument("--file", type=Path, required=True)
    options.add_argument("--device", required=True)
    options.add_argument("--seconds", type=float, required=True)
    options.add_argument("--dry", action="store_true")
    args = options.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.manual_seed(0)
    device = runtime.select_device(args.device)
    run = import_module(f"benchmarks.gpu_check.parts.{args.name}").run
    run(Check(args.file, device, args.dry, args.seconds))


if __name__ == "__main__":
    main()
