"""Schedules against independent implementations, and what they refuse."""
import numpy as np
import pytest

from skelbook.learner.schedule import cosine_lr, linear_scaling, step_lr


def test_cosine_against_torch():
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=40)
    for step in range(40):
        np.testing.assert_allclose(cosine_lr(step, 40, 0.2), optimizer.param_groups[0]["lr"],
                                   atol=1e-14)
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize("milestones", [(35, 45, 55), (9, 11), ()])
def test_steps_against_torch(milestones):
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, gamma=0.1)
    for epoch in range(65):
        for step in (7 * epoch, 7 * epoch + 6):
            np.testing.assert_allclose(step_lr(step, 7, 0.1, milestones),
                                       optimizer.param_groups[0]["lr"], rtol=1e-14)
        optimizer.step()
        schedule.step()


def test_sequence_cnn_recipe():
    """Epochs 0-349 at 1e-3, 350-429 at 1e-4, 430-469 at 1e-5, 470-499 at 1e-6."""
    rates = [step_lr(epoch, 1, 1e-3, (350, 430, 470)) for epoch in range(500)]
    expected = np.repeat([1e-3, 1e-4, 1e-5, 1e-6], (350, 80, 40, 30))
    np.testing.assert_allclose(rates, expected, rtol=1e-14)


def test_nw_ucla_recipe():
    """Five epochs up, full rate, a tenth of it from epoch 50 of 65."""
    rates = [step_lr(epoch * 3, 3, 0.1, (50,), 0.1, 5) for epoch in range(65)]
    expected = [0.02, 0.04, 0.06, 0.08] + [0.1] * 46 + [0.01] * 15
    np.testing.assert_allclose(rates, expected, rtol=1e-14)


def test_rates_are_plain_numbers():
    """They end up in checkpoints, which hold nothing but tensors and plain values."""
    assert type(cosine_lr(3, 10, 0.1)) is type(step_lr(3, 10, 0.1, (1,))) is float
    assert linear_scaling(0.1, 64, 128) == 0.05


@pytest.mark.parametrize("call, message", [
    (lambda: cosine_lr(-1, 10, 0.1), "step -1"),
    (lambda: cosine_lr(11, 10, 0.1), "0 .. 10"),
    (lambda: cosine_lr(0, 0, 0.1), "no steps"),
    (lambda: step_lr(-1, 10, 0.1, ()), "step -1"),
    (lambda: step_lr(0, 0, 0.1, ()), "0 steps"),
    (lambda: step_lr(0, 10, 0.1, (4,), warmup_epochs=5), "warm-up"),
    (lambda: linear_scaling(0.1, 16, 0), "batch"),
    (lambda: linear_scaling(0.1, 0, 16), "batch"),
])
def test_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
