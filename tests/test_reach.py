"""How far heads look, against a brute-force computation; power spectra of known images."""

import math

import numpy as np
import pytest
import torch

from stylenat.metrics.spectrum import power_spectrum
from stylenat.models import Generator
from stylenat.models.attention_maps import neighbourhood_weights, reach, record_attention
from stylenat.neighbourhood import FAR
from tests.tiny import experiment


def test_reach_by_brute_force():
    torch.manual_seed(1)
    config = experiment().model
    generator = Generator(config).eval()
    generator.initialise(0.3, 0.02, 0.0)
    _, blocks = record_attention(generator, torch.randn(1, config.style_dim))
    for block in blocks:
        side, start = block.side, 0
        maps = {
            (y, x): neighbourhood_weights(block, y, x) for y in range(side) for x in range(side)
        }
        for group, found in zip(block.groups, reach(block), strict=True):
            sums = np.zeros(5)
            for (y, x), weights in maps.items():
                far = torch.tensor(
                    [[math.dist((y, x), (i, j)) for j in range(side)] for i in range(side)]
                )
                for head in range(start, start + group.heads):
                    mine = weights[head]
                    keys = mine > 0
                    sums += [
                        float((mine * far).sum()),
                        float(-(mine[keys] * mine[keys].log()).sum() / math.log(keys.sum())),
                        float(mine[far > FAR].sum()),
                        float(far[keys].mean()),
                        float((far[keys] > FAR).double().mean()),
                    ]
            start += group.heads
            expected = sums / (side**2 * group.heads)
            values = [getattr(found, key) for key in found.__dataclass_fields__]
            np.testing.assert_allclose(values, expected, rtol=1e-6)
    dilated = [one for block in blocks if block.side == 16 for one in reach(block)]
    assert dilated[1].uniform_distance > 2 * dilated[0].uniform_distance  # d = 4 and d = 1


def grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(np.clip(np.rint(255 * values), 0, 255).astype(np.uint8)[..., None], 3, 2)


def test_the_spectrum_of_white_noise_is_flat():
    rng = np.random.default_rng(0)
    spectra = [power_spectrum(grey(rng.normal(0.5, 0.1, (32, 32)))) for _ in range(200)]
    np.testing.assert_allclose(np.mean(spectra, 0), 0.01, rtol=0.1)


@pytest.mark.parametrize("periods", [3, 10])
def test_the_spectrum_of_a_wave_is_a_peak(periods):
    wave = 0.5 + 0.4 * np.cos(2 * np.pi * periods * np.arange(32) / 32)
    spectrum = power_spectrum(grey(np.tile(wave, (32, 1))))
    assert np.argmax(spectrum) == periods - 1  # radii begin at 1
    rest = np.delete(spectrum, periods - 1)
    assert spectrum[periods - 1] > 100 * rest.max()
