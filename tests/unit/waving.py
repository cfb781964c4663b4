"""A clip that is easy to draw: bodies at rest, of whose joints the last one goes round."""

import numpy as np

from skelbook.data.store import Store, collect_clips
from skelbook.graph import find_layout, rest_pose
from skelbook.report.films import look_at


def store_of(layout, joints, scores=None):
    "A store of one clip (M, T, V, C)."
    sample = dict(name="a clip", label=0, joints=np.asarray(joints, np.float32))
    if scores is not None:
        sample["scores"] = np.asarray(scores, np.float32)
    meta = {"name": "made up", "layout": layout, "classes": ["wave_hand"]}
    return Store(None, collect_clips([sample]), {}, meta)


def waving(layout, persons=1, frames=12, seed=0):
    "Bodies at rest whose last joint goes round, (M, T, V, C), in pixels or in metres, y up."
    layout, rng = find_layout(layout), np.random.default_rng(seed)
    pose = np.broadcast_to(rest_pose(layout), (persons, frames, len(layout.joints), 2)).copy()
    pose[..., 0] += 1.5 * np.arange(persons)[:, None, None]
    angle = np.linspace(0, 6, frames)
    pose[:, :, -1] += 0.3 * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    pose += rng.normal(0, 0.002, pose.shape)
    if layout.dims == 2:
        return 500 + [200, -200] * pose
    return np.concatenate([pose, np.full((*pose.shape[:-1], 1), 3.)], axis=-1)


def scene_of(layout, persons=1, frames=12):
    "The scene of a waving body."
    return look_at(store_of(layout, waving(layout, persons, frames)), 0)
