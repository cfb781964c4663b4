"""What must hold for any input of a graph network."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skelbook.models.blocks import DataNorm, collect, spread
from skelbook.models.zoo import create_model

quick = settings(deadline=None, max_examples=15)
NAMES = ["stgcn", "stgcnpp", "agcn"]
every = pytest.mark.parametrize("name", NAMES)


def network(name):
    "A small network in double precision whose units do something, with statistics of its own."
    torch.manual_seed(0)
    model = create_model(name, "coco", 5, base_width=8, num_stages=3, inflate_stages=(2,),
                         down_stages=(3,))
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
        if hasattr(module, "alpha"):
            module.alpha.data.fill_(0.7)
    return model.double().eval()


NETWORKS = {name: network(name) for name in NAMES}


def batch(seed, n, frames=6):
    return torch.randn(n, 2, frames, 17, 3, dtype=torch.float64,
                       generator=torch.Generator().manual_seed(seed))


@every
@quick
@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 9))
def test_samples_of_a_batch_do_not_meet_in_eval_mode(name, seed, n, frames):
    model, x = NETWORKS[name], batch(seed, n, frames)
    alone = torch.cat([model(one[None]) for one in x])
    torch.testing.assert_close(model(x), alone, rtol=1e-10, atol=1e-10)


@every
@quick
@given(st.integers(0, 10**6), st.permutations(range(4)))
def test_the_order_of_a_batch_does_not_matter(name, seed, order):
    model, x = NETWORKS[name], batch(seed, 4)
    torch.testing.assert_close(model(x[order]), model(x)[order], rtol=1e-10, atol=1e-10)


@every
@quick
@given(st.integers(0, 10**6))
def test_persons_may_change_places_unless_each_has_its_statistics(name, seed):
    model, x = NETWORKS[name], batch(seed, 2)
    assert torch.allclose(model(x), model(x.flip(1)), rtol=1e-10, atol=1e-10) == (name != "agcn")


@pytest.mark.parametrize("name", ["stgcn", "stgcnpp"])
@quick
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 9))
def test_any_number_of_persons_is_the_mean_over_them(name, seed, persons, frames):
    x = torch.randn(2, persons, frames, 17, 3, dtype=torch.float64,
                    generator=torch.Generator().manual_seed(seed))
    model = NETWORKS[name]
    each = torch.stack([model(x[:, [m]]) for m in range(persons)]).mean(0)
    torch.testing.assert_close(model(x), each, rtol=1e-10, atol=1e-10)


@every
@quick
@given(st.integers(0, 10**6))
def test_single_precision_is_close_to_double(name, seed):
    x = batch(seed, 2)
    single = network(name).float()(x.float()).double()
    exact = NETWORKS[name](x)
    assert (single - exact).abs().max() <= 1e-4 * exact.abs().max()


@quick
@given(st.integers(0, 10**6), st.integers(1, 3), st.permutations(range(5)))
def test_a_fixed_graph_is_a_graph_that_is_the_same_for_all(seed, kinds, order):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, kinds, 3, 4, 5, dtype=torch.float64, generator=generator)
    graph = torch.randn(kinds, 5, 5, dtype=torch.float64, generator=generator)
    each = [spread(x[:, k], graph[None, [k]].expand(2, -1, -1, -1)) for k in range(kinds)]
    heard = collect(x.flatten(1, 2), graph)
    torch.testing.assert_close(heard, sum(each))
    moved = collect(x.flatten(1, 2)[..., order], graph[:, order][..., order])
    torch.testing.assert_close(moved, heard[..., order])


@quick
@given(st.integers(0, 10**6), st.permutations(range(3)))
def test_persons_may_change_places_only_where_they_share_statistics(seed, order):
    x = torch.randn(2, 3, 4, 5, 2, generator=torch.Generator().manual_seed(seed))
    shared = DataNorm(5, 2)
    y = shared(x).unflatten(0, (2, 3))
    torch.testing.assert_close(shared(x[:, order]).unflatten(0, (2, 3)), y[:, order])
    separate = DataNorm(5, 2, num_persons=3).eval()
    separate.norm.running_mean.copy_(torch.arange(30.))
    y = separate(x).unflatten(0, (2, 3))
    same = torch.allclose(separate(x[:, order]).unflatten(0, (2, 3)), y[:, order])
    assert same == (list(order) == [0, 1, 2])


@quick
@given(st.integers(0, 10**6), st.floats(-2, 2), st.floats(-2, 2))
def test_spreading_is_linear_in_the_graph(seed, a, b):
    generator = torch.Generator().manual_seed(seed)
    x, g, h = (torch.randn(*shape, dtype=torch.float64, generator=generator)
               for shape in ((2, 3, 4, 5), (2, 3, 5, 5), (2, 3, 5, 5)))
    torch.testing.assert_close(spread(x, a * g + b * h), a * spread(x, g) + b * spread(x, h))


@quick
@given(st.integers(0, 10**6), st.permutations(range(5)))
def test_renaming_joints_renames_what_they_collect(seed, order):
    generator = torch.Generator().manual_seed(seed)
    x, graph = torch.randn(2, 3, 4, 5, generator=generator), torch.randn(2, 3, 5, 5)
    moved = spread(x[..., order], graph[:, :, order][..., order])
    torch.testing.assert_close(moved, spread(x, graph)[..., order])
