"""The azimuthally averaged power spectrum of images, whose high frequencies GANs are known to miss
(Durall et al. 2020, "Watch your Up-Convolution")."""

import numpy as np

LUMINANCE = np.array([0.2126, 0.7152, 0.0722])  # BT.709


def power_spectrum(pixels: np.ndarray) -> np.ndarray:
    """Mean power at the radii 1, 2, …, S/2 of the luminance of uint8 (S, S, 3), in [0, 1].

    The radius is the frequency in periods per side, rounded; power is |F|² / S², so that white
    noise of variance σ² has σ² at every radius.
    """
    side = len(pixels)
    transform = np.fft.fft2(pixels @ LUMINANCE / 255)
    power = np.abs(transform) ** 2 / side**2
    frequency = np.fft.fftfreq(side, 1 / side)
    radius = np.rint(np.hypot(frequency[:, None], frequency)).astype(int)
    sums = np.bincount(radius.ravel(), power.ravel())
    counts = np.bincount(radius.ravel())
    return (sums / counts)[1 : side // 2 + 1]
