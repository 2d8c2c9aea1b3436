"""ADA and DiffAugment: every operation against a formula of its own, gradients, and the identity."""

import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from stylenat.images import from_signed, to_signed
from stylenat.training.augment import Augmentation, ada, bcr, diffaugment
from stylenat.training.build import build_trainer
from stylenat.training.noise import Purpose
from tests.tiny import experiment
from tests.training_run import ALONE, advance, everything

SIDE = 16
EYE = np.eye(3)[None]


def images(count: int = 2, side: int = SIDE, smooth: bool = False) -> torch.Tensor:
    x = torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(3)).double()
    if smooth:
        x = torch.nn.functional.interpolate(x[:, :, :4, :4], (side, side), mode="bicubic")
    return x


def draws(**changed: np.ndarray) -> ada.Draws:
    same = {"blit": EYE[:, :2], "geometry": EYE[:, :2], "colour": np.eye(3, 4)[None]}
    return ada.Draws(**same | changed)


# ----------------------------------------------------------------------------------------- ADA


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ([[-1, 0, 0], [0, 1, 0]], lambda x: x.flip(3)),
        ([[0, 1, 0], [-1, 0, 0]], lambda x: torch.rot90(x, -1, (2, 3))),
        ([[0, -1, 0], [1, 0, 0]], lambda x: torch.rot90(x, 1, (2, 3))),
        ([[-1, 0, 0], [0, -1, 0]], lambda x: torch.rot90(x, 2, (2, 3))),
    ],
)
def test_blitting_copies_pixels(matrix, expected):
    x = images(1)
    assert torch.equal(ada.apply(x, draws(blit=np.array([matrix], float))), expected(x))


def test_a_shift_by_whole_pixels_mirrors_what_moves_in():
    x = images(1)
    shifted = ada.apply(x, draws(blit=np.array([[[1, 0, -2 / SIDE], [0, 1, 1 / SIDE]]])))
    padded = np.pad(x[0].numpy(), ((0, 0), (2, 2), (2, 2)), mode="reflect")
    np.testing.assert_array_equal(shifted[0], padded[:, 3 : 3 + SIDE, :SIDE])


def test_the_resampling_filter_is_orthonormal_so_that_up_and_down_is_the_identity():
    for shift in range(0, 12, 2):
        product = ada.SYM6[shift:] @ ada.SYM6[: 12 - shift]
        assert product == pytest.approx(float(shift == 0), abs=1e-10)
    x = images(1)
    # Almost nothing is moved, but everything is resampled.
    nearly = np.array([[[1, 0, 1e-12], [0, 1, 0]]])
    torch.testing.assert_close(ada.apply(x, draws(geometry=nearly)), x, atol=1e-8, rtol=0)


def test_geometry_moves_a_smooth_image_as_scipy_does():
    from scipy.ndimage import affine_transform

    x, angle = images(1, 32, smooth=True), 0.3
    linear = (
        np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]) * 0.8
    )
    shift = np.array([0.05, -0.1])
    found = ada.apply(x, draws(geometry=np.column_stack([linear, shift])[None]))
    # SciPy maps (row, column), so the axes are exchanged; coordinates are from the centre.
    matrix, centre = linear[::-1, ::-1], np.full(2, 15.5)
    offset = centre - matrix @ centre + 32 * shift[::-1]
    for channel in range(3):
        expected = affine_transform(x[0, channel].numpy(), matrix, offset, order=3, mode="mirror")
        inside = np.s_[6:-6, 6:-6]
        error = np.abs(found[0, channel].numpy() - expected)[inside]
        assert error.max() < 0.03 * np.ptp(expected)


def test_colour_against_the_formulae_of_the_paper():
    """One operation at a time, on colours in [−1, 1]."""
    x = images(1)
    signed = to_signed(x)
    luma = signed.mean(1, keepdim=True)
    rng = np.random.default_rng(0)
    while True:  # an image that all operations are applied to, with a luma flip
        drawn = ada.draw(rng, 1, SIDE, 1.0)
        linear = drawn.colour[0, :, :3]
        grey = linear @ np.ones(3)
        if grey[0] < 0:
            break
    # Grey stays grey: contrast and luma flip scale it, brightness was added before.
    np.testing.assert_allclose(grey, grey[0])
    np.testing.assert_allclose(drawn.colour[0, :, 3], drawn.colour[0, 0, 3])
    # What is not grey is turned and scaled alike in all directions.
    basis = np.array([[1, -1, 0], [1, 1, -2]]) / np.sqrt([[2], [6]])
    plane = basis @ linear @ basis.T
    scale = math.sqrt(np.linalg.det(plane))
    np.testing.assert_allclose(plane @ plane.T, scale**2 * np.eye(2), atol=1e-12)
    found = to_signed(ada.apply(x, draws(colour=drawn.colour)))
    expected = (
        drawn.colour[0, 0, 3]
        + grey[0] * luma
        + torch.einsum("ij,bjhw->bihw", torch.from_numpy(linear), signed - luma)
    )
    torch.testing.assert_close(found, expected)


def test_hue_turns_about_the_axis_of_grey():
    third = ada._hue(np.array([2 * math.pi / 3]))[0]
    # A third of a turn permutes the channels.
    np.testing.assert_allclose(np.abs(third).sum(), 3, atol=1e-12)
    np.testing.assert_allclose(third @ [1, 1, 1], [1, 1, 1])


def test_nothing_is_changed_at_p_0_bit_for_bit():
    x = images(64).float()
    augment = Augmentation("ada", 0, 0, 64, ALONE, p=0.0)
    assert torch.equal(augment(x, Purpose.AUGMENT_REAL), x)


@pytest.mark.parametrize("p", [0.2, 0.6])
def test_operations_are_drawn_as_often_as_p_says(p):
    """How many images stay themselves in each group, by the paper's distributions."""
    n = 20_000
    drawn = ada.draw(np.random.default_rng(1), n, 32, p)

    def same(maps):
        return (maps == np.eye(*maps.shape[1:])).all((1, 2)).mean()

    no_shift = 1 - p + p / 8  # at 32 pixels, about an eighth of the shifts round to none
    kept = (1 - p / 2) * (1 - p * 3 / 4) * no_shift**2
    # A flip and half a turn, say, are not undone by each other, but other pairs of draws are: so a little more.
    assert kept - 0.01 < same(drawn.blit) < kept + 0.05
    assert same(drawn.geometry) == pytest.approx((1 - p) ** 5, abs=0.015)
    assert same(drawn.colour) == pytest.approx((1 - p) ** 4 * (1 - p / 2), abs=0.015)


def test_the_random_numbers_do_not_depend_on_p():
    few, many = (ada.draw(np.random.default_rng(2), 500, 32, p) for p in (0.1, 0.9))
    chosen = (few.colour != np.eye(3, 4)).any((1, 2))
    more = (many.colour != np.eye(3, 4)).any((1, 2))
    assert (more | ~chosen).all() and more.sum() > chosen.sum()


# -------------------------------------------------------------------------------- DiffAugment


def test_diffaugment_against_a_formula_of_its_own():
    rng = np.random.default_rng(4)
    x = images(4)
    values = bcr.draw(rng, 4, SIDE)
    found = diffaugment.apply(x, bcr.Draws(**{k: torch.from_numpy(v) for k, v in values.items()}))
    for index in range(4):
        one = {key: value[index].item() for key, value in values.items()}
        y = to_signed(x[index : index + 1])[0].numpy() + one["brightness"]
        y = y.mean(0) + one["saturation"] * (y - y.mean(0))
        y = y.mean() + one["contrast"] * (y - y.mean())
        padded = np.pad(y, ((0, 0), (2, 2), (2, 2)))
        top, left = 2 - one["shift_y"], 2 - one["shift_x"]
        y = padded[:, top : top + SIDE, left : left + SIDE].copy()
        rows = slice(max(one["cut_y"], 0), max(one["cut_y"] + SIDE // 2, 0))
        columns = slice(max(one["cut_x"], 0), max(one["cut_x"] + SIDE // 2, 0))
        y[:, rows, columns] = 0
        expected = from_signed(torch.from_numpy(y)[None])[0]
        torch.testing.assert_close(found[index], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["ada", "diffaugment"])
def test_gradients_once_and_twice(kind):
    augment = Augmentation(kind, 1, 2, 2, ALONE, p=0.9)
    x = images(2, 8).requires_grad_(True)

    def loss(x):
        return augment(x, Purpose.AUGMENT_FAKE).square()

    assert gradcheck(loss, x, fast_mode=True)
    assert gradgradcheck(loss, x, fast_mode=True)


# ------------------------------------------------------------------------------------ training


def test_p_follows_the_sign_of_the_logits_on_reals():
    control = ada.AdaptiveProbability(0.6, 1000, 10, torch.device("cpu"))
    for step in range(8):
        control.update(torch.tensor(0.8), step)
    assert control.p == pytest.approx(0.08)  # 80 images of 1,000
    for step in range(8, 12):
        control.update(torch.tensor(0.5 if step < 11 else math.nan), step)
    assert control.p == pytest.approx(0.04)
    for step in range(12, 28):
        control.update(torch.tensor(-1.0), step)
    assert control.p == 0


@pytest.mark.parametrize("kind", ["ada", "diffaugment"])
@pytest.mark.parametrize(("microbatch", "parts"), [(None, 1), (4, 2), (1, 2)])
def test_the_discriminator_is_shown_augmented_images_only(kind, microbatch, parts, monkeypatch):
    config = experiment(augment=kind, ada_images=40)
    trainer = build_trainer(config, ALONE, microbatch)
    purposes = []

    def augment(images, purpose, part):
        purposes.append(purpose)
        return images * 0

    shown = []
    forward = trainer.discriminator.forward

    def watched(images, passes=1, which=slice(None)):
        shown.extend(images.detach().chunk(len(range(passes)[which])))
        return forward(images, passes, which)

    monkeypatch.setattr(trainer.discriminator, "forward", watched)
    z = torch.randn(8, 8)
    trainer.iteration(torch.randn(8, 3, 16, 16), z, z, augment)
    assert len(shown) == len(purposes) == 4 * parts  # fakes, reals, R1, the generator's
    assert not any(x.any() for x in shown)
    assert set(purposes) == {
        Purpose.AUGMENT_REAL,
        Purpose.AUGMENT_FAKE,
        Purpose.AUGMENT_GENERATED,
    }


def test_with_the_batch_in_parts_ada_trains_the_same():
    results = []
    for most in (None, 3):
        trainer = build_trainer(experiment(augment="ada", ada_images=40), ALONE, most)
        trainer.generator.double(), trainer.discriminator.double(), trainer.generator_ema.double()
        advance(trainer, 6, torch.float64)
        assert trainer.ada.p > 0
        results.append(everything(trainer))
    for key, value in results[0].items():
        torch.testing.assert_close(results[1][key], value, msg=key)


def test_frozen_levels_of_the_discriminator_keep_their_weights():
    trainer = build_trainer(experiment(freeze_discriminator=1), ALONE)
    before = {key: p.clone() for key, p in trainer.discriminator.named_parameters()}
    advance(trainer, 5)
    for key, parameter in trainer.discriminator.named_parameters():
        frozen = key.startswith(("from_rgbs.0.", "convs.0."))
        assert torch.equal(parameter, before[key]) == frozen, key


def test_the_running_average_follows_at_once_while_the_ramp_is_short():
    trainer = build_trainer(experiment(ema_rampup=0.05, ema_half_life=1e9), ALONE)
    advance(trainer, 1)
    own, average = trainer.generator.parameters(), trainer.generator_ema.parameters()
    assert all(torch.equal(a, b) for a, b in zip(own, average, strict=True))
    before = [p.clone() for p in trainer.generator_ema.parameters()]
    advance(trainer, 2)
    share = 0.5 ** (1 / 0.05)  # of the average that survives iteration 1
    for old, new, target in zip(
        before, trainer.generator_ema.parameters(), trainer.generator.parameters(), strict=True
    ):
        torch.testing.assert_close(new, target + share * (old - target))
