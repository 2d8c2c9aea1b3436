"""One plain training iteration under torch.profiler: launches, idle time, the longest kernels."""

import time

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu_check.check import Check
from benchmarks.iteration import experiment, iterations

LONGEST = 20
MOST_LAUNCHES = 2000  # of a plain iteration: the target


def run(check: Check) -> None:
    config = experiment("faces32", 4) if check.dry else experiment("ffhq256", 8)
    plain = iterations(config, check.device)["plain"]
    for _ in range(1 if check.dry else 3):
        plain()
    activities = [ProfilerActivity.CPU]
    if check.gpu:
        activities.append(ProfilerActivity.CUDA)
        torch.cuda.synchronize(check.device)
    with profile(activities=activities) as profiler:
        begun = time.perf_counter()
        plain()
        if check.gpu:
            torch.cuda.synchronize(check.device)
        seconds = time.perf_counter() - begun
    kernels = [
        event
        for event in profiler.events()
        if event.device_type == (DeviceType.CUDA if check.gpu else DeviceType.CPU)
        # Spans of what the program names would count kernels twice.
        and not getattr(event, "is_user_annotation", False)
    ]
    totals: dict[str, list[float]] = {}
    for event in kernels:
        time_us = event.time_range.elapsed_us() if check.gpu else event.self_cpu_time_total
        totals.setdefault(event.name, []).append(time_us)
    busy = sum(map(sum, totals.values())) / 1e6
    ranked = sorted(totals.items(), key=lambda item: -sum(item[1]))
    for name, times in ranked[:LONGEST]:
        check.row(
            f"the {LONGEST} that take the longest",
            name=name[:100],
            launches=len(times),
            ms=sum(times) / 1e3,
            share=sum(times) / 1e6 / busy,
        )
    syncs = [e for e in profiler.events() if "Synchronize" in e.name]
    check.row(
        "one plain iteration",
        ms=seconds * 1e3,
        launches=len(kernels),
        busy_ms=busy * 1e3,
        synchronisations=len(syncs),
    )
    check.verdict(
        f"Does a plain iteration take at most {MOST_LAUNCHES} launches?",
        len(kernels) <= MOST_LAUNCHES if check.gpu else None,
        f"{len(kernels)}{'' if check.gpu else ' operations on a CPU'}.",
    )
    check.verdict(
        "Is the GPU busy nine tenths of the time?",
        busy >= 0.9 * seconds if check.gpu else None,
        # Under the profiler launches take longer, so the true share is larger.
        f"Idle {max(0.0, 1 - busy / seconds):.0%} of {seconds * 1e3:.0f} ms, while profiled."
        if check.gpu
        else "There is no GPU.",
    )
