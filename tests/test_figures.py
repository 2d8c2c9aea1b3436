"""Figures drawn without a network: legible in print, and true to what they are drawn from."""

import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from stylenat.blocks.hydra import HeadGroup
from stylenat.config import ModelConfig
from stylenat.pictures import fit, save_animation
from stylenat.report import style
from stylenat.report.attention import GroupMaps, draw_mean_query, draw_neighbourhoods
from stylenat.report.measured import Floor, Measured, Speed
from stylenat.report.mosaic import draw_mosaic
from stylenat.report.progress import draw_progress
from stylenat.report.receptive import draw_receptive_fields, reach, views_of
from stylenat.report.scatter import PARAMETERS, THROUGHPUT, draw_fid_scatter
from tests.outputs import find
from tests.project import run

RANDOM = np.random.default_rng(0)


def measured(experiment: str = "ffhq256", **changes) -> Measured:
    values = {
        "experiment": experiment, "dataset": "ffhq256", "resolution": 256, "table": "fid",
        "protocol": "fid50k", "comparable": True, "steps": (0, 100, 200),
        "images": (0, 6400, 12800), "values": (300.0, 8.0, 2.5),
        "floor": Floor(0.5, "halves of the reals"), "params_m": 48.9,
        "speeds": (Speed(1, 30.0, 48.9, "GPU"), Speed(64, 50.0, 48.9, "GPU")),
    }  # fmt: skip
    return Measured(**(values | changes))


GALAXIES = {
    "dataset": "galaxies32", "resolution": 32, "table": "fd_lite0", "protocol": "fd_lite0",
    "comparable": False,
}  # fmt: skip


def model(size: int, block="hydra", kernels=None) -> ModelConfig:
    return ModelConfig(
        image_size=size, style_dim=16, mapping_layers=1, mapping_lr=0.01, channel_max=512,
        channel_base=16384, channel_multiplier=2, min_heads=4, mlp_ratio=1, block=block,
        kernels=kernels or [[3], *[[7]] * 8],
        dilations=[[1], [1], [1, 2], [1, 4], [1, 8], [1, 16], [1, 32], [1, 64], [1, 128]],
    )  # fmt: skip


def noise(*shape: int) -> np.ndarray:
    return RANDOM.integers(0, 255, (*shape, 3), dtype=np.uint8)


def group_maps(size: int, heads: int) -> list[GroupMaps]:
    """Two groups in each block of every level from 8² to size²; weights at few pixels."""
    found = []
    for level in range(1, size.bit_length() - 2):
        for block in (0, 1):
            for dilation in (1, 2**level // 8 or 1):
                maps = np.zeros((heads, 4 << level, 4 << level))
                maps[:, : 3 * dilation : dilation, : 3 * dilation : dilation] = RANDOM.random(
                    (3, 3)
                )
                found.append(GroupMaps(level, block, HeadGroup(heads, 3, dilation), maps))
    return found


def test_what_needs_no_network_needs_no_torch():
    """Figures are drawn from tables on machines that have nothing else."""
    code = (
        "import sys, pkgutil, importlib, stylenat.report as package\n"
        "names = [f'stylenat.report.{m.name}' for m in pkgutil.iter_modules(package.__path__)]\n"
        "names += [f'stylenat.steps.{name}' for name in ('figures', 'curve', 'receptive', 'tables', 'overview')]\n"
        "for name in names: importlib.import_module(name)\n"
        "assert 'stylenat.report.scatter' in sys.modules and 'torch' not in sys.modules"
    )
    done = run(sys.executable, "-c", code)
    assert done.returncode == 0, done.stderr


# ------------------------------------------------------------------------------ legibility


@pytest.mark.parametrize(
    "draw",
    [
        lambda known: draw_fid_scatter(PARAMETERS, known, [measured(), measured("b", **GALAXIES)]),
        lambda known: draw_fid_scatter(THROUGHPUT, known, [measured(), measured("b", **GALAXIES)]),
        lambda known: draw_progress([measured(), measured("b", **GALAXIES)], known),
        lambda known: draw_receptive_fields(model(1024)),
        lambda known: draw_mean_query(noise(64, 64), 0, group_maps(64, heads=8)),
        lambda known: draw_neighbourhoods(noise(64, 64), 0, (32, 60), group_maps(64, heads=1)),
        lambda known: draw_mosaic(
            noise(2, 9, 256, 256), ["a", "b"], ["ψ = 1"] * 9, footer="f " * 99
        ),
    ],
    ids=["params", "throughput", "progress", "receptive", "mean_query", "neighbours", "mosaic"],
)
def test_nothing_is_wider_than_a_page_or_smaller_than_seven_points(published, draw):
    with style.styled():
        figure: Figure = draw(published)
        figure.draw_without_rendering()
    width, height = figure.get_size_inches()
    assert width <= style.PAGE + 1e-6 and height <= 9
    texts = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    assert min(text.get_fontsize() for text in texts) >= 7
    box = figure.get_tightbbox()
    assert box.x0 > -0.02 and box.x1 < width + 0.02, "nothing is cut off"
    assert box.y0 > -0.02 and box.y1 < height + 0.02, "nothing is cut off"


# ------------------------------------------------------------------------------ progress


def lines_of(ax) -> dict[str, list]:
    return {line.get_label(): line.get_xydata().tolist() for line in ax.lines}


def test_progress_joins_what_may_be_compared_and_nothing_else(published):
    ours = [measured("a"), measured("b", values=(200.0, 9.0, 3.0)), measured("c", **GALAXIES)]
    with style.styled():
        faces, galaxies = draw_progress(ours, published).axes
    lines = lines_of(faces)
    assert lines["a"] == [[0, 300], [6400, 8], [12800, 2.5]]
    assert lines["b"] == [[0, 200], [6400, 9], [12800, 3]]
    assert {point[1] for point in lines["StyleNAT, published: 2.046"]} == {2.046}
    assert {point[1] for point in lines["floor: halves of the reals"]} == {0.5}
    assert set(lines_of(galaxies)) == {"c", "floor: halves of the reals"}
    assert "not FID" in galaxies.get_ylabel() and "not FID" not in faces.get_ylabel()
    looks = [(line.get_color(), line.get_marker()) for line in faces.lines[:2]]
    assert looks[0][0] != looks[1][0] and looks[0][1] != looks[1][1]


def test_weights_from_elsewhere_are_a_level_line(published):
    official = measured("official", steps=(940000,), images=(None,), values=(2.05,))
    with style.styled():
        (ax,) = draw_progress([official], published).axes
    assert {point[1] for point in lines_of(ax)["official"]} == {2.05}


def test_only_the_fastest_batch_is_labelled(published):
    with style.styled():
        ax = draw_fid_scatter(THROUGHPUT, published, [measured()]).axes[0]
    assert [t.get_text() for t in ax.texts if "ffhq256" in t.get_text()] == ["ffhq256\nbatch 64"]
    assert [[30, 2.5], [50, 2.5]] in [line.get_xydata().tolist() for line in ax.lines]


# ------------------------------------------------------------------------------ receptive fields


def brute_force(config: ModelConfig, level: int, blocks: int) -> np.ndarray:
    """Walk from the centre, pixel by pixel, in two dimensions."""
    heads = views_of(config, level)
    side = config.resolutions[level]
    reached = {(side // 2, side // 2)}
    for _ in range(blocks):
        reached = {
            (row, column)
            for y, x in reached
            for kind in heads
            for row in kind.windows[y]
            for column in kind.windows[x]
        }
    field = np.zeros((side, side), bool)
    field[tuple(np.array(sorted(reached)).T)] = True
    return field


@pytest.mark.parametrize("level", [0, 1, 2, 3])
@pytest.mark.parametrize("block", ["hydra", "windows", "full"])
def test_reach_is_that_of_a_walk_over_all_pixels(level, block):
    kernels = [[4], *[[8]] * 8] if block == "windows" else None
    config = model(32, block, kernels)
    for blocks in (1, 2):
        field = reach(views_of(config, level), blocks)
        assert (field == brute_force(config, level, blocks)).all()


def test_what_the_published_model_sees_at_256():
    near, far = views_of(model(256), 6)
    assert (near.name, far.name) == ("7×7, d = 1", "7×7, d = 32")
    assert near.windows[128] == list(range(125, 132))
    assert far.windows[128] == list(range(32, 256, 32))
    field = reach([near, far], blocks=2)
    assert field[32, 32] and field[35, 35] and not field[36, 35]


def test_windows_of_styleswin_are_tiles_and_tiles_shifted_by_half():
    plain, shifted = views_of(model(16, "windows", [[4], [8], [8]]), 2)
    assert plain.windows[8] == list(range(8, 16)) and plain.windows[7] == list(range(8))
    assert shifted.windows[8] == list(range(4, 12))
    assert shifted.windows[3] == [0, 1, 2, 3] and shifted.windows[12] == [12, 13, 14, 15]


# ------------------------------------------------------------------------------ attention


def test_maps_are_drawn_over_the_pixels_they_belong_to():
    """The only key with a weight covers its own quarter of the picture's side."""
    maps = np.zeros((1, 8, 8))
    maps[0, 2, 6] = 1.0
    with style.styled():
        figure = draw_neighbourhoods(
            noise(32, 32), 0, (8, 24), [GroupMaps(1, 0, HeadGroup(1, 3, 1), maps)]
        )
    ax = figure.axes[0]
    x0, x1, y1, y0 = ax.images[1].get_extent()  # the first is the sample in colours
    keys = ax.collections[0].get_paths()[0].get_extents()
    assert (keys.x0 - x0) / (x1 - x0) == pytest.approx(6 / 8)
    assert (keys.y0 - y0) / (y1 - y0) == pytest.approx(2 / 8)
    assert keys.width / (x1 - x0) == pytest.approx(1 / 8)


# ------------------------------------------------------------------------------ pixels


@pytest.mark.parametrize("side", [32, 256])
def test_a_mosaic_shows_every_pixel(tmp_path, side):
    pictures = noise(2, 3, side, side)
    with style.styled():
        figure = draw_mosaic(
            pictures, ["seed 0", "seed 1"], ["a", "b", "c"], notes=[["x"] * 3] * 2, sources=(1, 1)
        )
        style.save(figure, [tmp_path / "m.png"], {"seeds": "0-1"})
    with Image.open(tmp_path / "m.png") as image:
        assert image.text["seeds"] == "0-1"
        canvas = np.asarray(image.convert("RGB"))
    places = np.array([[find(fit(picture), canvas) for picture in row] for row in pictures])
    assert (np.diff(places[:, :, 0], axis=0) > side).all() and (
        np.ptp(places[:, :, 0], 1) == 0
    ).all()
    assert (np.diff(places[:, :, 1], axis=1) > side).all() and (
        np.ptp(places[:, :, 1], 0) == 0
    ).all()


def test_framed_pictures_alone_get_a_frame():
    with style.styled():
        figure = draw_mosaic(noise(2, 2, 32, 32), ["", ""], ["a", "b"], framed={(1, 0)})
    assert len(figure.axes[0].patches) == 1


def test_large_pictures_are_averaged_and_small_ones_enlarged():
    assert fit(noise(2, 48, 48)).shape == (2, 96, 96, 3)
    large = noise(1, 512, 512)
    small = fit(large)
    assert small.shape == (1, 256, 256, 3)
    assert small[0, 3, 5].tolist() == np.floor(large[0, 6:8, 10:12].mean((0, 1)) + 0.5).tolist()


def test_an_animation_loops_and_says_what_it_shows(tmp_path):
    frames = [np.full((8, 8, 3), level, np.uint8) for level in (0, 100, 200)]
    save_animation(tmp_path / "a.gif", frames, 80, "seeds 0-3")
    with Image.open(tmp_path / "a.gif") as image:
        assert (image.n_frames, image.info["loop"], image.info["duration"]) == (3, 0, 80)
        assert image.info["comment"] == b"seeds 0-3"
        for number, frame in enumerate(frames):
            image.seek(number)
            assert np.abs(np.asarray(image.convert("RGB")).astype(int) - frame).max() <= 1
