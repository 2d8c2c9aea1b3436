"""Attention at the shapes of the networks, in every precision, against float64 on the same device."""

import math
import multiprocessing
import time
from functools import partial

import torch
from torch import Tensor

from benchmarks.attention import Case, cases
from benchmarks.gpu_check.check import Check, first_line
from benchmarks.harness import ffhq
from stylenat.models import self_check
from stylenat.models.attention import default_backend, hydra_attention
from stylenat.models.attention.requirements import faults

# Precision: dtype, what matrix products may do, largest error relative to the largest number.
PRECISIONS = {
    "float32": (torch.float32, "highest", 1e-5),
    "tf32": (torch.float32, "high", 3e-3),
    "bfloat16": (torch.bfloat16, "highest", 2e-2),
    "float16": (torch.float16, "highest", 3e-3),
}
OUTCOMES = ("output", "gradient of qkv", "gradient of bias")
PROCESSES = 4  # kernels compile side by side, in processes that a faulty kernel may end


def run(check: Check) -> None:
    # One head size first in all precisions: what FFHQ-256 trains with.
    levels = [case for case in cases(check.device, 16 if check.dry else 1024) if case.groups]
    levels.sort(key=lambda case: (case.head_dim != 32, case.side))
    tasks = [(case, name) for case in levels for name in PRECISIONS]
    if not check.gpu:
        tasks = tasks[:8]
    results = {}
    compare = partial(errors, device=check.device)
    for (case, precision), found in _outcomes(check, compare, tasks):
        tolerance = PRECISIONS[precision][2]
        if isinstance(found, str):
            row = {"fault": found}
        else:
            row = dict(zip(OUTCOMES, found, strict=True))
        good = not isinstance(found, str) and max(found) <= tolerance
        results[case, precision] = good
        check.row(
            "largest error, relative to the largest number",
            case=case.name,
            precision=precision,
            **row,
            tolerance=tolerance,
            good="yes" if good else "NO",
        )
    for precision in PRECISIONS:
        mine = {case: good for (case, name), good in results.items() if name == precision}
        bad = [case.name for case, good in mine.items() if not good]
        check.verdict(
            f"Are the attention kernels right in {precision}?",
            not bad if mine else None,
            f"{len(mine) - len(bad)} of {len(mine)} cases of {len(levels)}"
            + (f"; wrong: {', '.join(bad)}." if bad else "."),
        )
    _self_check(check)


def _self_check(check: Check) -> None:
    """What every job asks of its kernels, and how long it takes once most of them are compiled."""
    question = "Do the kernels pass the check before a job?"
    if default_backend(check.device) != "triton":
        check.verdict(question, None, "Plain PyTorch computes here.")
        return
    times = []
    for precision in self_check.TOLERANCES:
        begun = time.monotonic()
        self_check.check_kernels(ffhq(256), check.device, precision, gradients=True)
        times.append(f"{precision} {time.monotonic() - begun:.1f} s")
    wrong = [f"{family}: {fault}" for family, fault in faults.items()]
    check.verdict(question, not wrong, "; ".join(wrong or times) + ".")


def _outcomes(check: Check, compare, tasks):
    """Each task with what was found, as they come, until time is up."""
    if not check.gpu:
        for task in tasks:
            if check.left() < 0:
                return
            yield task, compare(task)
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(PROCESSES, maxtasksperchild=4) as pool:
        waiting = [(task, pool.apply_async(compare, (task,))) for task in tasks]
        for task, result in waiting:
            try:
                yield task, result.get(max(0.0, check.left()))
            except multiprocessing.TimeoutError:
                return


def errors(task: tuple[Case, str], device: torch.device) -> list[float] | str:
    """Of output, gradient of qkv and of the bias tables; what was raised instead, if anything."""
    case, precision = task
    dtype, products, _ = PRECISIONS[precision]
    torch.manual_seed(0)
    torch.set_float32_matmul_precision(products)
    torch.backends.cudnn.allow_tf32 = False  # for the reference
    try:
        one = Case(case.name, 1, case.side, case.head_dim, case.groups)
        qkv, tables = one.tensors(device, dtype)
        grad = torch.randn(*qkv.shape[:3], one.channels, device=device).to(dtype)
        found = _outcome(qkv, tables, grad, one, default_backend(device, dtype))
        exact = [x.double() for x in (qkv, *tables)]
        expected = _outcome(exact[0], exact[1:], grad.double(), one, "tiles")
        differences = [_error(a, b) for a, b in zip(found, expected, strict=True)]
        return [differences[0], differences[1], max(differences[2:])]
    except Exception as error:  # noqa: BLE001 whatever a kernel may raise is the finding
        return first_line(error)


def _outcome(
    qkv: Tensor, tables: list[Tensor], grad: Tensor, case: Case, backend: str
) -> list[Tensor]:
    inputs = [x.detach().requires_grad_() for x in (qkv, *tables)]
    out = hydra_attention(inputs[0], inputs[1:], case.groups, backend)
    return [out.detach(), *torch.autograd.grad(out, inputs, grad)]


def _error(found: Tensor, expected: Tensor) -> float:
    largest = expected.abs().max().item() or 1.0
    error = (found.double() - expected).abs().max().item() / largest
    return float("inf") if math.isnan(error) else error  # so that no maximum hides it
