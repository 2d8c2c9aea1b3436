"""Whole training iterations by precision, with their memory."""

import gc
from dataclasses import replace

import torch

from benchmarks.gpu_check.check import Check, first_line
from benchmarks.iteration import experiment, measure

# Experiment, batch, precision; and images per second that were predicted for an H100.
CASES = {
    ("ffhq256", 8, "tf32"): 51,
    ("ffhq256", 8, "float32"): None,
    ("ffhq256", 8, "bf16"): 53,
    ("ffhq256", 16, "tf32"): None,
    ("ffhq1024", 4, "tf32"): None,
}
TOY = {("faces32", 4, "float32"): None, ("faces32", 4, "bf16"): None}


def run(check: Check) -> None:
    cases = TOY if check.dry else CASES
    measured, failed = [], []
    for (name, batch, precision), predicted in cases.items():
        if check.left() < 0:
            break
        case = f"{name}:{batch} {precision}"
        config = replace(experiment(name, batch), precision=precision)
        forget(check)
        try:
            row = measure(config, check.device, 0 if check.dry else 2)
        except Exception as error:  # noqa: BLE001 what is raised is the finding
            failed.append(f"{case}: {first_line(error)}")
            continue
        measured.append(f"{case} {row['images_per_second']:.3g}")
        check.row(
            "iterations",
            case=case,
            images_per_second=row["images_per_second"],
            predicted=predicted or "",
            memory_mb=row["memory_mb"],
            plain_ms=row["times"]["plain"]["ms"],
            r1_ms=row["times"]["with R1"]["ms"],
        )
    check.verdict(
        "Do training iterations run, and how many images a second?",
        not failed if measured or failed else None,
        "; ".join([*measured, *failed]) + ".",
    )


def forget(check: Check) -> None:
    """Give back the memory of what was measured before."""
    gc.collect()
    if check.gpu:
        torch.cuda.empty_cache()
