"""How fast data sets are packed and read, against what the parts alone allow.

    python benchmarks/data.py [--workers 2] [--images 400] [--rounds 3]

Packing is compared with a straightforward program (a process pool around Pillow, PNG into LMDB)
and with its own parts (decode, resize, encode) in as many processes that exchange nothing; loading
with bare decoding and with PyTorch's DataLoader. Variants run in turn and the best round of each
counts. Two figures each: images per second once all workers are busy, and processor time per image
of all processes together (the difference between a long and a short run, so that starting up does
not count). The first is what a quiet machine shows; the second also holds where other programs
share the cores.
"""

import argparse
import io
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import lmdb
import numpy as np
from PIL import Image

from stylenat import runtime
from stylenat.data import codec
from stylenat.data.pack import PackSettings, pack
from stylenat.data.prepare import decode
from stylenat.data.sampler import batch_indices
from stylenat.data.sources.files import Files
from stylenat.data.sources.samples import PHOTOGRAPHS, sample_file
from stylenat.data.store import ImageStore

SIDE = 256
BATCH = 32
WARM_UP = 40  # images until every worker is busy

Advance = Callable[[int], None]


def write_images(folder: Path, count: int, side: int, format: str) -> None:
    """``count`` files with the detail of photographs, linked from a few that are drawn."""
    random = np.random.default_rng(0)
    for index in range(count):
        path = folder / f"{index:05d}.{format}"
        if index >= 24:
            path.hardlink_to(folder / f"{index % 24:05d}.{format}")
            continue
        with Image.open(sample_file(PHOTOGRAPHS[index % len(PHOTOGRAPHS)])) as photo:
            image = photo.convert("RGB")
        edge = min(image.size)
        left, top = (int(random.integers(length - edge + 1)) for length in image.size)
        image = image.crop((left, top, left + edge, top + edge)).resize((side, side))
        # Enlarging has smoothed it; the grain of a camera makes files as large as FFHQ's.
        grain = random.normal(0, 2, (side, side, 1))
        pixels = np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(path, quality=90)


# ------------------------------------------------------------------------ packing, three ways


def simple_image(path: Path) -> bytes:
    """One image of the straightforward program."""
    image = Image.open(path).convert("RGB")
    image = image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def simple_pack(paths: list[Path], output: Path, workers: int, advance: Advance) -> None:
    """The straightforward program; like all that follow, it tells of every image."""
    with (
        multiprocessing.Pool(workers) as pool,
        lmdb.open(str(output), subdir=False, map_size=1 << 36) as environment,
        environment.begin(write=True) as transaction,
    ):
        for index, value in enumerate(pool.imap(simple_image, paths)):
            transaction.put(f"{index:08d}".encode(), value)
            advance(1)
        pool.close()
        pool.join()


def our_pack(paths: list[Path], output: Path, workers: int, advance: Advance) -> None:
    """:func:`stylenat.data.pack.pack`, verification and renaming included."""
    source = Files(paths[0].parent, [path.name for path in paths], "", "benchmark")
    pack(source, PackSettings("x", SIDE, "lanczos"), output, workers, advance=advance)


def bare_image(path: Path) -> int:
    """Decode, resize and encode, and nothing else."""
    image = decode(path.read_bytes())
    return len(codec._webp(image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)))


def bare_pack(paths: list[Path], output: Path, workers: int, advance: Advance) -> None:
    """Processes that return nothing but a number."""
    bare(bare_image, paths, workers, advance)


def bare(function: Callable, items: list, workers: int, advance: Advance) -> None:
    """``function`` of every item, shared out among processes."""
    with multiprocessing.Pool(workers) as pool:
        for _ in pool.imap(function, items, chunksize=8):
            advance(1)
        pool.close()
        pool.join()


# ----------------------------------------------------------------------------------- loading


def read_image(path: Path, index: int) -> int:
    """Decoding alone."""
    return len(open_store(path).read(index))


open_store = cache(ImageStore)


def bare_loading(path: Path, workers: int, count: int, advance: Advance) -> None:
    """Decoding alone, shared out among processes."""
    indices = [index % len(ImageStore(path)) for index in range(count)]
    bare(partial(read_image, path), indices, workers, advance)


def our_loading(path: Path, workers: int, count: int, advance: Advance) -> None:
    """What arrives at a trainer that takes no time itself."""
    from stylenat.data import loader  # here, because every worker process imports this file

    loader._CACHE_BYTES = 0  # read the file, as for a set that does not fit in memory
    indices = partial(batch_indices, len(ImageStore(path)), BATCH, seed=0)
    batches = iter(loader.Loader(path, lambda step: indices(step=step), 0, workers))
    for _ in range(count // BATCH):
        advance(len(next(batches)))
    batches.close()


def torch_loading(path: Path, workers: int, count: int, advance: Advance) -> None:
    """The same by PyTorch's DataLoader: forked workers, their batches in shared memory."""
    import torch
    from torch.utils.data import DataLoader

    store = ImageStore(path)
    steps = [batch_indices(len(store), BATCH, step, seed=0) for step in range(count // BATCH)]

    class Images:
        def __getitems__(self, indices: np.ndarray) -> list[np.ndarray]:
            return [store.read(int(index)) for index in indices]

    def stack(images: list[np.ndarray]) -> torch.Tensor:
        return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)

    for batch in DataLoader(Images(), batch_sampler=steps, collate_fn=stack, num_workers=workers):
        advance(len(batch))


# --------------------------------------------------------------------------------- measuring


def processor_time() -> float:
    """Seconds of processor time of this process and its children that have ended."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(sum(resource.getrusage(w)[:2]) for w in who)


def run(program: Callable[[int, Advance], None], count: int) -> tuple[float, float]:
    """(images per second after the warm-up, processor seconds) of ``count`` images."""
    begun = processor_time()
    done, start, warm = 0, 0.0, 0

    def advance(images: int) -> None:
        nonlocal done, start, warm
        done += images
        if not start and done >= WARM_UP:
            start, warm = time.perf_counter(), done

    program(count, advance)
    return (done - warm) / (time.perf_counter() - start), processor_time() - begun


def compare(programs: dict[str, Callable[[int, Advance], None]], count: int, rounds: int) -> str:
    """Measure ``programs`` on ``count`` images; the ratios are to "ours"."""
    rates: dict[str, list[float]] = {name: [] for name in programs}
    costs: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(rounds):
        for name, program in programs.items():
            _, less = run(program, count // 4)
            rate, more = run(program, count)
            rates[name].append(rate)
            costs[name].append((more - less) / (count - count // 4) * 1e3)
    lines = []
    for name in programs:
        rate, cost = max(rates[name]), min(costs[name])
        line = f"    {name:8s} {rate:8.1f} images/s {cost:8.2f} ms of processor per image"
        if name != "ours":
            by_rate, by_cost = max(rates["ours"]) / rate, cost / min(costs["ours"])
            line += f"   ours/{name}: {by_rate:.2f} by rate, {by_cost:.2f} by processor time"
        lines.append(line)
    return "\n".join(lines)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--workers", type=int, default=2)
    options.add_argument("--images", type=int, default=400)
    options.add_argument("--rounds", type=int, default=3)
    args = options.parse_args()
    print(json.dumps(runtime.versions()))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for side, format, count in ((1024, "png", args.images), (256, "jpg", 8 * args.images)):
            images = folder / format
            images.mkdir()
            write_images(images, count, side, format)
            paths = sorted(images.iterdir())
            print(f"packing {side}² {format} → {SIDE}², {args.workers} processes", flush=True)
            programs = {
                name: partial(packed, program, paths, folder / f"{name}.lmdb", args.workers)
                for name, program in (
                    ("simple", simple_pack),
                    ("parts", bare_pack),
                    ("ours", our_pack),
                )
            }
            print(compare(programs, count, args.rounds), flush=True)
        print(f"loading {SIDE}², batches of {BATCH}, {args.workers} processes", flush=True)
        programs = {
            name: partial(program, folder / "ours.lmdb", args.workers)
            for name, program in (
                ("decoding", bare_loading),
                ("torch", torch_loading),
                ("ours", our_loading),
            )
        }
        print(compare(programs, 32 * args.images // BATCH * BATCH, args.rounds))


def packed(
    program: Callable, paths: list[Path], output: Path, workers: int, count: int, advance: Advance
) -> None:
    """A packing program on the first ``count`` images, from nothing."""
    output.unlink(missing_ok=True)
    program(paths[:count], output, workers, advance)


if __name__ == "__main__":
    main()
