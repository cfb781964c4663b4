"""What must hold for any clip that Two-Stream CNN or Ta-CNN sees."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skelbook.models.ta_cnn import TaCNN
from skelbook.models.two_stream_cnn import TwoStreamCNN

quick = settings(deadline=None, max_examples=10)
SEEDS = st.integers(0, 10**6)


def network(make, **options):
    "A network in double precision, with biases, slopes and statistics that are nowhere special."
    torch.manual_seed(0)
    model = make("coco", 5, **options)
    for name, tensor in model.state_dict().items():
        if name.endswith(("bias", "running_mean")):
            tensor.normal_()
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
    for module in model.modules():
        if isinstance(module, torch.nn.PReLU):
            module.weight.data.normal_()
    return model.double().eval().requires_grad_(False)


NETWORKS = {"two_stream_cnn": network(TwoStreamCNN, clip_len=16), "ta_cnn": network(TaCNN)}
FIRST = {"two_stream_cnn": ("position.0.mixing", "motion.0.mixing"),     # (V, 30)
         "ta_cnn": ("body.position.4.map1.weight", "body.motion.4.map1.weight")}   # (30, V, 1, 1)
every = pytest.mark.parametrize("name", NETWORKS)


def random(seed, *shape):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@every
@quick
@given(SEEDS, st.permutations(range(3)))
def test_persons_may_change_places_and_samples_do_not_meet(name, seed, order):
    model, x = NETWORKS[name], random(seed, 3, 3, 16, 17, 3)
    close(model(x[:, order]), model(x))
    close(model(x[order]), model(x)[order])


@every
@quick
@given(SEEDS, st.permutations(range(17)))
def test_joints_have_no_order(name, seed, order):
    "Whoever renames the joints, and the weights of the layer that mixes them, changes nothing."
    model, x = copy.deepcopy(NETWORKS[name]), random(seed, 2, 2, 16, 17, 3)
    before = model(x)
    for key in FIRST[name]:
        weight = model.get_parameter(key)
        weight.data = weight[order] if key.endswith("mixing") else weight[:, order]
    close(model(x[..., order, :]), before)


@every
@quick
@given(SEEDS)
def test_time_has_an_order(name, seed):
    model, x = NETWORKS[name], random(seed, 2, 2, 16, 17, 3)
    assert not torch.allclose(model(x.flip(2)), model(x), rtol=1e-6)
