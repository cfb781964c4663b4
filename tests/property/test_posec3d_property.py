"""What must hold for any volume that PoseC3D sees."""

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from skelbook.models.posec3d import FlatConv, PoseC3D, each_frame

quick = settings(deadline=None, max_examples=25)
SEEDS = st.integers(0, 10**6)
SIDES = st.integers(1, 9)


def random(seed, *shape):
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def network(**options):
    "A small network in double precision whose blocks speak."
    torch.manual_seed(0)
    model = PoseC3D("coco", 5, base_width=4, **options)
    for name, tensor in model.state_dict().items():
        if name.endswith(("norm.weight", "running_var")):
            tensor.uniform_(0.5, 1.5)
        if name.endswith(("norm.bias", "running_mean")):
            tensor.normal_()
    return model.double().eval().requires_grad_(False)


MODEL = network(stage_blocks=(1, 1, 1))
STILL = network(stage_blocks=(2,), spatial_strides=(2,), temporal_strides=(1,))


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@quick
@given(SEEDS, SIDES, SIDES, SIDES, st.sampled_from([(3, 1, 1), (5, 1, 1), (1, 1, 1), (1, 3, 3),
                                                    (1, 1, 5), (1, 7, 7)]),
       st.tuples(*3 * [st.integers(1, 3)]))
def test_a_flat_convolution_is_one_in_three_dimensions(seed, frames, rows, columns, kernel, stride):
    stride = (1, 1, 1) if kernel[0] > 1 else stride
    conv = FlatConv(2, 3, kernel, stride).double()
    x = random(seed, 2, 2, frames, rows, columns)
    close(conv(x), F.conv3d(x, conv.weight, stride=stride, padding=[k // 2 for k in kernel]))


@quick
@given(SEEDS, SIDES, SIDES)
def test_samples_do_not_meet(seed, frames, side):
    x = random(seed, 3, 17, frames, side, side)
    close(MODEL(x)[1:2], MODEL(x[1:2]))


@quick
@given(SEEDS, st.permutations(range(6)))
def test_without_a_squeeze_over_frames_their_order_is_nothing(seed, order):
    x = random(seed, 1, 17, 6, 8, 8)
    close(STILL(x[:, :, order]), STILL(x))
    moved = (MODEL(x[:, :, order]) - MODEL(x)).abs().max()
    assert moved > 1e-6 or list(order) == sorted(order)


@quick
@given(SEEDS, st.integers(1, 4))
def test_a_picture_that_stands_still_gives_the_same_however_long_it_stands(seed, frames):
    "Of the network that looks at single pictures; the other hears where the film ends."
    x = random(seed, 1, 17, 1, 8, 8)
    close(STILL(x.expand(-1, -1, frames, -1, -1)), STILL(x))


@quick
@given(SEEDS)
def test_every_frame_gets_what_the_function_gives_it(seed):
    x = random(seed, 2, 3, 4, 6, 6)
    y = each_frame(lambda images: images.flip(-1)[:, :2], x)
    close(y, x.flip(-1)[:, :2])
