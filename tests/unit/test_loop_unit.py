"""The loop: what it does to weights, what it reports, and when it stops."""

import os
import shutil
import subprocess
import sys
from dataclasses import fields, replace
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from skelbook.data.loading import Batch
from skelbook.learner.group import Group
from skelbook.learner.loop import (
    Progress,
    Replay,
    check_compiler,
    compiled,
    follow,
    make_optimizer,
    predict,
    train_epoch,
)
from skelbook.learner.recipes import DEMO
from skelbook.models.zoo import create_model


class Linear(nn.Module):
    "A linear layer on the mean over persons, frames and joints."

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(2, 3)

    def forward(self, x):
        return self.fc(x.mean(dim=(1, 2, 3)))


def model(seed=0):
    "`Linear` with weights that depend on the seed."
    torch.manual_seed(seed)
    return Linear()


def batch(n=4, seed=0, first=0):
    "A batch of (n, 1, 5, 2, 2) clips with three classes."
    rng = np.random.default_rng(seed)
    x, columns = torch.from_numpy(rng.normal(size=(n, 1, 5, 2, 2))).float(), torch.ones(n).long()
    labels, samples = torch.from_numpy(rng.integers(0, 3, n)), torch.arange(first, first + n)
    return Batch(labels, samples, x, columns, torch.zeros(n, 5), 5 * columns)


def parted(whole, shards):
    "The shards of a batch."
    columns = [tensor.tensor_split(min(shards, len(whole.labels)))
               for field in fields(Batch) if (tensor := getattr(whole, field.name)) is not None]
    return [Batch(*part) for part in zip(*columns, strict=True)]


def one_clip(batch):
    "(N, M, T, V, C) -> (N, 1, M, T, V, C)."
    return batch.joints[:, None]


# -- training

def test_a_step_is_nesterovs_with_decay_on_weights_and_biases():
    ours, recipe = model(), DEMO
    optimizer = make_optimizer(ours, recipe)
    w = {k: p.detach().double().clone() for k, p in ours.named_parameters()}
    v = {k: torch.zeros_like(p) for k, p in w.items()}
    for step in range(3):
        twin = model().double()
        twin.load_state_dict(w)
        loss = nn.functional.cross_entropy(twin(batch().joints.double()), batch().labels)
        loss.backward()
        for k, p in twin.named_parameters():
            gradient = p.grad + recipe.weight_decay * w[k]
            v[k] = recipe.momentum * v[k] + gradient
            w[k] = w[k] - 0.1 * (step + 1) * (gradient + recipe.momentum * v[k])
    train_epoch(ours, optimizer, [[batch()]] * 3, one_clip, lambda step: 0.1 * (step + 1))
    for k, p in ours.named_parameters():
        np.testing.assert_allclose(p.detach(), w[k], rtol=1e-5, atol=1e-6)


def test_the_rate_is_that_of_the_step_and_steps_are_counted_on():
    seen, ours = [], model()
    done = train_epoch(ours, make_optimizer(ours, DEMO), [[batch()]] * 3, one_clip,
                       lambda step: seen.append(step) or 0.1, Progress(7, 3.5, 2, 4))
    assert (done.step, done.clips) == (10, 16) and seen == [7, 8, 9]
    assert done.loss > 3.5 and done.hits >= 2


def test_an_epoch_in_two_parts_is_an_epoch():
    steps = [[batch(5, seed=seed)] for seed in range(4)]
    one, two = model(), model()
    its, others = make_optimizer(one, DEMO), make_optimizer(two, DEMO)
    whole = train_epoch(one, its, steps, one_clip, lambda step: 0.1)
    half = train_epoch(two, others, steps[:3], one_clip, lambda step: 0.1)
    assert train_epoch(two, others, steps[3:], one_clip, lambda step: 0.1, half) == whole
    assert torch.equal(one.fc.weight, two.fc.weight)


def test_a_rate_of_zero_changes_nothing_and_reports_means_over_clips():
    ours, losses = model(), []
    before = {k: w.clone() for k, w in ours.state_dict().items()}
    batches = [batch(5, seed=1), batch(1, seed=2)]             # the last one is smaller
    done = train_epoch(ours, make_optimizer(ours, DEMO), [[part] for part in batches], one_clip,
                       lambda step: 0.0, after_step=lambda done, loss, stop: losses.append(loss))
    assert all(torch.equal(before[k], w) for k, w in ours.state_dict().items())
    assert done.loss == pytest.approx(5 * losses[0] + losses[1], rel=1e-6) and done.clips == 6
    hits = sum((ours(b.joints).argmax(1) == b.labels).sum().item() for b in batches)
    assert done.hits == hits


def test_watching_changes_nothing():
    ends = []
    for watch in (dict(), dict(after_step=lambda done, loss, stop: torch.rand(3))):
        ours = model()
        optimizer = make_optimizer(ours, DEMO)
        train_epoch(ours, optimizer, [[batch()]] * 2, one_clip, lambda step: 0.1, **watch)
        ends.append(ours.fc.weight.detach().numpy())
    np.testing.assert_array_equal(*ends)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("names, said", [
    (None, "[12]"), (np.array(list("abcdefghijklmnop")), "['m']")])
def test_a_broken_clip_is_named_before_it_reaches_the_weights(value, names, said):
    ours, broken = model(), batch(first=10)
    broken.joints[2, 0, 3, 1, 0] = value
    before, optimizer = ours.fc.weight.clone(), make_optimizer(ours, DEMO)
    with pytest.raises(FloatingPointError, match="step 3 with learning rate 0.25") as error:
        train_epoch(ours, optimizer, [[broken]], one_clip, lambda step: 0.25, Progress(3),
                    names=names)
    assert str(error.value).endswith(f"not finite in clips {said}")
    assert torch.equal(ours.fc.weight, before)


def test_a_loss_that_explodes_on_good_clips_blames_the_rate():
    ours = model()
    ours.fc.weight.data[:] = float("inf")
    with pytest.raises(FloatingPointError, match="clips are finite: lower the learning rate"):
        train_epoch(ours, make_optimizer(ours, DEMO), [[batch()]], one_clip, lambda step: 0.1)


def test_a_gradient_that_explodes_stops_the_run_before_the_weights_do():
    class Steep(Linear):
        def forward(self, x):                       # a finite loss with an infinite slope
            return super().forward(x) + (self.fc.weight * 0).abs().sqrt().sum()

    ours = Steep()
    before, optimizer = ours.fc.weight.clone(), make_optimizer(ours, DEMO)
    with pytest.raises(FloatingPointError, match="gradient's length nan .* lower the learning"):
        train_epoch(ours, optimizer, [[batch()]], one_clip, lambda step: 0.1)
    assert torch.equal(ours.fc.weight, before)


@pytest.mark.parametrize("shards", [1, 2])
def test_long_gradients_are_shortened_and_short_ones_are_not(shards):
    plain = torch.optim.SGD
    ends = {}
    for clip_norm in (0.0, 0.01, 100.0):
        ours = model()
        before = torch.cat([p.detach().flatten() for p in ours.parameters()])
        train_epoch(ours, plain(ours.parameters(), 1.0), [parted(batch(6), shards)], one_clip,
                    lambda step: 1.0, shards=shards, clip_norm=clip_norm)
        ends[clip_norm] = torch.cat([p.detach().flatten() for p in ours.parameters()]) - before
    assert torch.equal(ends[0.0], ends[100.0]) and ends[0.0].norm() > 0.02
    short = 0.01 * ends[0.0] / ends[0.0].norm()
    torch.testing.assert_close(ends[0.01], short, rtol=1e-3, atol=1e-6)


def test_half_precision_is_the_forward_pass_only():
    ours, kinds = model(), []
    ours.fc.register_forward_hook(lambda module, x, y: kinds.append(y.dtype))
    optimizer = make_optimizer(ours, DEMO)
    train_epoch(ours, optimizer, [[batch()]], one_clip, lambda step: 0.1, precision="bf16")
    assert kinds == [torch.bfloat16]
    assert ours.fc.weight.dtype == ours.fc.weight.grad.dtype == torch.float32


# -- predictions

@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(1, 3))
def test_scores_do_not_depend_on_how_samples_are_batched(sizes, clips):
    ours, whole = model(), batch(sum(sizes), seed=3)

    def several(batch):
        return torch.stack([batch.joints * (s + 1) for s in range(clips)], dim=1)

    columns = [getattr(whole, field.name) for field in fields(Batch)[:6]]
    parts = [Batch(*cut) for cut in zip(*(column.split(sizes) for column in columns), strict=True)]
    samples, labels, scores = predict(ours, parts, several)
    np.testing.assert_array_equal(samples, np.arange(len(whole.labels)))
    np.testing.assert_array_equal(labels, whole.labels)
    assert scores.dtype == np.float64
    np.testing.assert_allclose(scores, predict(ours, [whole], several)[2], rtol=1e-5)
    np.testing.assert_allclose(scores.sum(1), 1, rtol=1e-12)


def test_predicting_leaves_the_network_in_evaluation_mode_and_without_gradients():
    ours, counts = model(), []
    predict(ours, [batch(4), batch(3)], one_clip, after_batch=counts.append)
    assert counts == [4, 7] and not ours.training
    assert ours.fc.weight.grad is None


# -- shards

class Normed(nn.Module):
    "A linear layer on normalised means, with dropout nowhere, so that all is deterministic."

    def __init__(self):
        super().__init__()
        self.norm, self.fc = nn.BatchNorm1d(2), nn.Linear(2, 3)

    def forward(self, x):
        return self.fc(self.norm(x.mean(dim=(1, 2, 3))))


def normed():
    "`Normed` with weights that are always the same."
    torch.manual_seed(3)
    return Normed().double()


def doubled(n, seed):
    "`batch` in double precision."
    part = batch(n, seed)
    return replace(part, joints=part.joints.double())


def as_on_devices(shards, batches, lr):
    "What data-parallel training does: a copy of the network per device, gradients averaged."
    copies = [normed() for _ in range(shards)]
    for whole in batches:
        parts = zip(whole.joints.chunk(shards), whole.labels.chunk(shards), strict=True)
        for copy, (x, labels) in zip(copies, parts, strict=True):
            copy.zero_grad()
            nn.functional.cross_entropy(copy(x), labels).backward()
        for same in zip(*(copy.parameters() for copy in copies), strict=True):
            gradient = torch.stack([p.grad for p in same]).mean(0)
            for p in same:
                p.data -= lr * gradient
    buffers = zip(*(copy.buffers() for copy in copies), strict=True)
    return copies[0], [torch.stack(same).double().mean(0) for same in buffers]


@pytest.mark.parametrize("shards", [1, 2, 4, 8])
def test_shards_are_devices_that_average_gradients_and_in_the_end_their_statistics(shards):
    batches = [doubled(16, seed) for seed in range(5)]
    devices, (mean, variance, _) = as_on_devices(shards, batches, lr=0.3)
    ours = normed()
    train_epoch(ours, torch.optim.SGD(ours.parameters(), 0.3),
                [parted(whole, shards) for whole in batches], one_clip, lambda step: 0.3,
                shards=shards)
    for p, q in zip(ours.parameters(), devices.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(ours.norm.running_mean, mean, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(ours.norm.running_var, variance, rtol=1e-12, atol=1e-14)
    assert ours.norm.momentum == 0.1, "the momentum is put back"
    assert ours.norm.num_batches_tracked == 5, "a step is one update, however many shards it has"


@pytest.mark.parametrize("sizes", [(8, 8), (8, 5)])
@pytest.mark.parametrize("name", ["stgcn", "stgcnpp", "agcn", "dynamic_gcn", "ta_cnn"])
def test_shards_in_one_pass_are_what_they_are_one_by_one(name, sizes):
    "Where bits do not matter; a batch that does not divide evenly is done one by one anyhow."
    ends = []
    for exact in (True, False):
        torch.manual_seed(0)
        options = {"dynamic_gcn": {"clip_len": 16, "base_width": 8}, "ta_cnn": {}}
        ours = create_model(name, "coco", 3, **options.get(name, {"base_width": 8})).double()
        for part in ours.modules():
            if isinstance(part, nn.Dropout):        # drawn once for each pass
                part.p = 0.0
        clips = torch.randn(16, 2, 16, 17, 3, dtype=torch.double)
        batches = [replace(batch(n), joints=clips[first:first + n])
                   for n, first in zip(sizes, (0, 8), strict=True)]
        done = train_epoch(ours, torch.optim.SGD(ours.parameters(), 0.05),
                           [parted(whole, 4) for whole in batches], one_clip, lambda step: 0.05,
                           shards=4, group=Group(exact=exact))
        ends.append((done, ours.state_dict()))
    assert ends[0][0].hits == ends[1][0].hits and ends[0][0].clips == ends[1][0].clips == sum(sizes)
    assert ends[0][0].loss == pytest.approx(ends[1][0].loss, rel=1e-10)
    for key, value in ends[0][1].items():
        torch.testing.assert_close(value, ends[1][1][key], rtol=1e-8, atol=1e-10, msg=key)


def test_a_clip_weighs_the_same_in_shards_of_different_sizes():
    ends = []
    for shards in (1, 3, 5, 9):                       # 7 clips; never more shards than clips
        ours = model()
        train_epoch(ours, make_optimizer(ours, DEMO), [parted(batch(7), shards)], one_clip,
                    lambda step: 0.1, shards=shards)
        ends.append(ours.fc.weight.detach())
    for end in ends[1:]:
        torch.testing.assert_close(end, ends[0], rtol=1e-5, atol=1e-7)


def test_the_report_of_a_sharded_epoch_is_over_all_clips():
    done = {}
    for shards in (1, 4):
        ours, batches = model(), [batch(6), batch(5, seed=1)]
        done[shards] = train_epoch(ours, make_optimizer(ours, DEMO),
                                   [parted(whole, shards) for whole in batches], one_clip,
                                   lambda step: 0.0, shards=shards)
    assert done[1].loss == pytest.approx(done[4].loss, rel=1e-6)
    assert replace(done[1], loss=0) == replace(done[4], loss=0) == Progress(2, 0, done[1].hits, 11)


def test_whoever_is_asked_to_stop_hears_of_it_after_the_step():
    for shards in (1, 2):
        ours, heard = model(), []
        train_epoch(ours, make_optimizer(ours, DEMO), [parted(batch(6), shards)] * 2, one_clip,
                    lambda step: 0.1, shards=shards, asked=[15],
                    after_step=lambda done, loss, stop, heard=heard: heard.append(stop))
        assert heard == [True, True]


@pytest.mark.parametrize("quick, sizes", [(False, [8]), (True, [2, 2, 2, 2])])
def test_a_network_that_was_changed_into_a_function_takes_its_shards_one_by_one(quick, sizes):
    ours, seen = normed(), []
    ours.register_forward_pre_hook(lambda module, given: seen.append(len(given[0])))
    train_epoch(ours, torch.optim.SGD(ours.parameters(), 0.1), [parted(doubled(8, 0), 4)],
                one_clip, lambda step: 0.1, shards=4, group=Group(exact=False),
                forward=ours.__call__ if quick else None)
    assert seen == sizes


# -- compiled

def test_one_size_of_a_batch_is_compiled_and_recorded(monkeypatch):
    ours, seen = model(), []
    monkeypatch.setattr(torch, "compile", lambda network, dynamic: (
        lambda x: seen.append(len(x)) or network(x)))
    forward = compiled(ours, clips=4)
    train_epoch(ours, make_optimizer(ours, DEMO), [[batch(n)] for n in (3, 4, 1, 4)], one_clip,
                lambda step: 0.1, forward=forward)
    assert seen == [4, 4]
    replay = Replay(ours.train(), clips=4)
    monkeypatch.setattr(replay, "_record", lambda x: seen.append("recorded") or ours)
    for n in (3, 4, 4):
        x = batch(n).joints
        on_gpu = mock.Mock(is_cuda=True, __len__=lambda self, n=n: n, mean=x.mean)
        assert torch.equal(replay(on_gpu), ours(x))
    assert seen == [4, 4, "recorded"]


# -- recorded

class Dropping(nn.Module):
    "A normed linear layer on half of the means over persons and frames."

    def __init__(self):
        super().__init__()
        self.norm, self.drop, self.fc = nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 3)

    def forward(self, x):
        return self.fc(self.drop(self.norm(x.mean((1, 2)).flatten(1))))


def test_trial_passes_of_a_recording_leave_no_trace(monkeypatch):
    ours = Dropping().train()

    def record(network, given):
        network(*given)
        return network

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", record)
    before = {name: buffer.clone() for name, buffer in ours.named_buffers()}
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    Replay(ours, clips=4)._record(batch(4).joints)
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(buffer, before[name]) for name, buffer in ours.named_buffers())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this PyTorch sees no GPU")
def test_a_training_that_is_recorded_anew_in_the_middle_ends_in_the_same_bits():
    ends, steps = [], [[batch(8, seed=n)] for n in range(8)]
    for parts in ((steps,), (steps[:3], steps[3:])):
        torch.manual_seed(3)
        ours, done = Dropping().cuda(), Progress()
        optimizer = torch.optim.SGD(ours.parameters(), 0.3, momentum=0.9)
        for part in parts:                           # each in a process of its own, as it were
            done = train_epoch(ours, optimizer, part, one_clip, lambda step: 0.3, done,
                               forward=Replay(ours, clips=8))
        ends.append((done, ours.state_dict()))
    assert ends[0][0] == ends[1][0]
    for key, value in ends[0][1].items():
        assert torch.equal(value, ends[1][1][key]), key


def has_compiler():
    "Can programs be compiled here?"
    return shutil.which(os.environ.get("CXX", "g++")) is not None


@pytest.mark.skipif(not has_compiler(), reason="there is no C++ compiler")
@pytest.mark.parametrize("precision, tolerance", [("float32", 1e-5), ("bf16", 2e-2)])
def test_a_compiled_training_is_nearly_the_same_and_compiled_once(precision, tolerance):
    torch.compiler.reset()
    ends = []
    sizes = (8, 8, 5, 8)                             # 5 clips in two shards: 3 and 2, not 4
    for quick in (False, True):
        torch.manual_seed(3)
        ours = Normed()
        forward = compiled(ours, clips=4) if quick else None
        with torch._dynamo.config.patch(error_on_recompile=True):
            done = train_epoch(ours, torch.optim.SGD(ours.parameters(), 0.3),
                               [parted(batch(n, seed=n), 2) for n in sizes], one_clip,
                               lambda step: 0.3, shards=2, forward=forward, precision=precision)
        ends.append((done, ours.state_dict()))
    assert ends[0][0].loss == pytest.approx(ends[1][0].loss, rel=tolerance)
    for key, value in ends[0][1].items():
        torch.testing.assert_close(value, ends[1][1][key], rtol=tolerance, atol=tolerance, msg=key)


def test_a_compiler_that_is_missing_is_told_in_a_line(tmp_path):
    code = ("import torch; from skelbook.learner.loop import check_compiler; "
            "check_compiler(torch.device('cpu'))")
    missing = os.environ | {"CXX": "no-such-compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=missing, text=True,
                          capture_output=True)
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1 and last.startswith("RuntimeError: compile True: this PyTorch")
    assert "no-such-compiler" in last and last.endswith("such as g++, or use compile False")


def test_a_compiler_that_is_there_is_not_mentioned():
    with torch.compiler.set_stance("force_eager"):
        check_compiler(torch.device("cpu"))


# -- the average of the weights

@pytest.mark.parametrize("share", [0.5, 0.9, 0.999])
def test_the_average_is_the_mean_of_all_steps_the_last_ones_most(share):
    ours, average, states = normed(), normed(), []
    for seed in range(6):
        train_epoch(ours, torch.optim.SGD(ours.parameters(), 0.3), [[doubled(8, seed)]], one_clip,
                    lambda step: 0.3)
        states.append({k: v.clone() for k, v in ours.state_dict().items()})
        follow(average, ours, share, seed + 1)
    counts = share ** torch.arange(5., -1, -1, dtype=torch.double)
    for key, mean in average.state_dict().items():
        every = torch.stack([state[key] for state in states])
        if mean.is_floating_point():                # the running statistics, too
            weighted = torch.tensordot(counts, every, 1) / counts.sum()
            torch.testing.assert_close(mean, weighted, rtol=1e-12, atol=1e-14)
        else:
            assert torch.equal(mean, every[-1]), "a counter counts"


def test_whoever_is_followed_is_not_changed_and_the_first_step_is_taken_whole():
    ours, average = normed(), normed()
    with torch.no_grad():
        ours.fc.weight += 1
    before = {k: v.clone() for k, v in ours.state_dict().items()}
    follow(average, ours, 0.999, 1)
    for key, value in before.items():
        assert torch.equal(ours.state_dict()[key], value)
        assert torch.equal(average.state_dict()[key], value)


# -- optimisers

def test_adam_adds_the_decay_to_the_gradient():
    ours, twin, recipe = model(), model(), replace(DEMO, optimizer="adam", lr=0.01)
    optimizer = make_optimizer(ours, recipe)
    train_epoch(ours, optimizer, [[batch()]] * 3, one_clip, lambda step: 0.01)
    plain = torch.optim.Adam(twin.parameters(), lr=0.01)
    for _ in range(3):
        plain.zero_grad()
        nn.functional.cross_entropy(one_loss := twin(batch().joints), batch().labels).backward()
        for p in twin.parameters():
            p.grad += recipe.weight_decay * p.detach()
        plain.step()
    assert one_loss.shape == (4, 3)
    for p, q in zip(ours.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("layer", ["fc", "norm"])
def test_strong_decay_is_ten_times_as_strong_on_a_layer_and_all_its_parameters(layer):
    groups = make_optimizer(normed(), replace(DEMO, strong_decay=layer)).param_groups
    assert [group["weight_decay"] for group in groups] == [5e-4, 5e-3]
    assert [len(group["params"]) for group in groups] == [2, 2]


def test_a_layer_that_is_not_there_cannot_decay():
    with pytest.raises(ValueError, match="no layer 'fc7' in Linear"):
        make_optimizer(model(), replace(DEMO, strong_decay="fc7"))
