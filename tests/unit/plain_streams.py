"""What a clip becomes, plainly: in NumPy, one clip at a time; and random clips to try it on."""

import numpy as np

SHAPES = [(1, 30), (2, 57), (2, 100), (1, 130), (2, 250), (1, 1), (2, 2)]      # persons, frames


def bodies(shapes, joints, seed=0):
    "Random bodies that drift, in metres, well apart from their origin."
    rng = np.random.default_rng(seed)
    for i, (m, t) in enumerate(shapes):
        body = rng.normal(0, 0.4, (m, 1, joints, 3)) + rng.normal(0, 0.03, (m, t, joints, 3))
        yield dict(name=str(i), label=0, joints=np.float32(body + rng.normal(0, 1, 3) + [0, 0, 3]))


def picture(clips, i):
    "Clip i (M, T, V, 3) in units of half its picture, with scores, float64."
    rows = slice(clips.offset[i], clips.offset[i + 1])
    height, width = clips.image_size[i]
    joints = clips.joints[rows].astype(float) / [width / 2, height / 2] - 1
    whole = np.concatenate([joints, clips.scores[rows, :, None]], -1)
    return whole.reshape(clips.num_persons[i], clips.num_frames[i], 17, 3)


def streamed(clip, stream, layout):
    "A stream of a whole clip (M, T, V, C): every frame's difference to the next recorded one."
    scored = layout.dims == 2
    if stream.startswith("bone"):
        start = clip[:, :, list(layout.bones)]
        bone = clip - start
        if scored:
            bone[..., 2] = (clip[..., 2] + start[..., 2]) / 2
        clip = bone
    if stream.endswith("motion"):
        move = np.zeros_like(clip)
        move[:, :-1] = clip[:, 1:] - clip[:, :-1]
        if scored:
            move[:, :-1, :, 2] = (clip[:, 1:, :, 2] + clip[:, :-1, :, 2]) / 2
        clip = move
    return clip


def filled(clip, persons):
    "Exactly so many persons: zeros for the absent, none beyond."
    out = np.zeros((persons, *clip.shape[1:]), clip.dtype)
    out[:len(clip)] = clip[:persons]
    return out
