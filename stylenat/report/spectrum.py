"""The power spectra of samples and reals."""

import numpy as np
from matplotlib.figure import Figure

from stylenat.report.style import BLACK, PAGE, VERMILLION, new_figure

BAND = (5, 95)  # percentiles over images


def draw_spectrum(reals: np.ndarray, samples: np.ndarray) -> Figure:
    """Medians over images, with bands, of spectra (n, S/2) by radius."""
    figure = new_figure(PAGE / 2, 2.6)
    ax = figure.subplots()
    radii = np.arange(1, reals.shape[1] + 1)
    for spectra, color, name in ((reals, BLACK, "real"), (samples, VERMILLION, "sampled")):
        low, high = np.percentile(spectra, BAND, axis=0)
        ax.fill_between(radii, low, high, color=color, alpha=0.15, linewidth=0)
        ax.plot(radii, np.median(spectra, 0), color=color, label=f"{name} ({len(spectra)} images)")
    ax.set(
        xlabel="frequency (periods per side)",
        ylabel=f"power; band: {BAND[0]} to {BAND[1]} % of images",
        yscale="log",
    )
    ax.legend()
    return figure
