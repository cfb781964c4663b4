"""Heatmap volumes the usual way, one patch after the other: the yardstick of the fast ones.

It mirrors, in our own words, what MMAction2 and PYSKL do: loops over frames, channels and persons,
and NumPy within a patch. Also the independent second opinion of the tests, since it shares no code
with the book and computes in double precision.
"""

import numpy as np

FAINTEST = 1e-4


def ends(low, high, reach, size):
    "First pixel and the one behind the last between two coordinates, in double precision."
    return max(int(float(low) - reach), 0), min(int(float(high) + reach) + 1, size)


def blob(image, place, score, sigma):
    "Draws a joint into a picture (H, W)."
    if not score >= FAINTEST:
        return
    left, right = ends(place[0], place[0], 3 * sigma, image.shape[1])
    top, bottom = ends(place[1], place[1], 3 * sigma, image.shape[0])
    if left >= right or top >= bottom:
        return
    x, y = np.arange(left, right) - place[0], np.arange(top, bottom)[:, None] - place[1]
    patch = np.exp(-(x**2 + y**2) / 2 / sigma**2) * score
    image[top:bottom, left:right] = np.maximum(image[top:bottom, left:right], patch)


def line(image, a, b, score_a, score_b, sigma):
    "Draws a limb into a picture (H, W)."
    score = min(score_a, score_b)
    if not score >= FAINTEST:
        return
    left, right = ends(min(a[0], b[0]), max(a[0], b[0]), 3 * sigma, image.shape[1])
    top, bottom = ends(min(a[1], b[1]), max(a[1], b[1]), 3 * sigma, image.shape[0])
    if left >= right or top >= bottom:
        return
    length2 = ((b - a)**2).sum()
    if length2 < 1:
        return blob(image, a, score_a, sigma)
    pixels = np.stack(np.meshgrid(np.arange(left, right), np.arange(top, bottom)), -1)
    to_a, to_b = ((pixels - a)**2).sum(-1), ((pixels - b)**2).sum(-1)
    along = (to_a - to_b + length2) / 2 / length2
    foot = a + along[..., None] * (b - a)
    across = ((pixels - foot)**2).sum(-1)
    distance2 = np.where(along <= 0, to_a, np.where(along >= 1, to_b, across))
    patch = np.exp(-distance2 / 2 / sigma**2) * score
    image[top:bottom, left:right] = np.maximum(image[top:bottom, left:right], patch)


def joints_by_loops(points, scores, size, sigma=0.6):
    "Volume (V, T, H, W) of joints (M, T, V, 2) with scores (M, T, V)."
    persons, frames, count, _ = points.shape
    volume = np.zeros((count, frames, *size), np.float32)
    for t in range(frames):
        for v in range(count):
            for m in range(persons):
                blob(volume[v, t], points[m, t, v], scores[m, t, v], sigma)
    return volume


def limbs_by_loops(points, scores, limbs, size, sigma=0.6):
    "Volume (L, T, H, W) of limbs between joints (M, T, V, 2) with scores (M, T, V)."
    persons, frames = points.shape[:2]
    volume = np.zeros((len(limbs), frames, *size), np.float32)
    for t in range(frames):
        for k, (a, b) in enumerate(limbs):
            for m in range(persons):
                line(volume[k, t], points[m, t, a], points[m, t, b], scores[m, t, a],
                     scores[m, t, b], sigma)
    return volume
