"""Quantised inference: copies, re-tuned normalisations, evaluation."""

import math

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from hfp8sim import InputError  # noqa: E402
from hfp8sim.training.inference import evaluate, quantise, retune_batchnorm  # noqa: E402


def model():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)
    ).eval()


def batches(count):
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(8, 1, 4, 4, generator=generator) + 2, torch.arange(8) % 3)
        for _ in range(count)
    ]


def test_quantised_copy_leaves_the_model_alone():
    trained, (x, _) = model(), batches(1)[0]
    before = trained(x)
    copy = quantise(trained, "hfp8", policy="last=fp16")
    assert torch.equal(trained(x), before) and not torch.equal(copy(x), before)
    assert not copy.training and type(trained[0]) is nn.Conv2d


def test_evaluation_by_hand():
    trained, data = model(), batches(3)
    result = evaluate(trained, data, reference=trained)
    logits, targets = torch.cat([trained(x) for x, _ in data]), torch.cat([y for _, y in data])
    assert result.accuracy == pytest.approx((logits.argmax(1) == targets).float().mean().item())
    assert result.loss == pytest.approx(
        nn.functional.cross_entropy(logits, targets).item(), rel=1e-6
    )
    assert result.logit_sqnr == math.inf

    class Noisy(nn.Module):
        def forward(self, x):
            return trained(x) * 1.01

    assert evaluate(Noisy(), data, trained).logit_sqnr == pytest.approx(40, abs=1e-3)
    assert evaluate(trained, data).logit_sqnr is None and "dB" not in str(evaluate(trained, data))


def test_retuned_statistics_are_averages_over_the_batches():
    trained, data = model(), batches(5)
    norm, inputs = trained[1], []
    trained[0].register_forward_hook(lambda m, args, y: inputs.append(y.detach()))
    retune_batchnorm(trained, (x for x, _ in data))
    means = torch.stack([y.mean((0, 2, 3)) for y in inputs]).mean(0)
    assert torch.allclose(norm.running_mean, means, atol=1e-6)
    assert norm.momentum == 0.1 and not norm.training and not trained.training


def test_retuning_needs_batches_and_normalisations():
    with pytest.raises(InputError, match="no batch normalisation"):
        retune_batchnorm(nn.Linear(2, 2), [torch.ones(1, 2)])
    with pytest.raises(InputError, match="at least one batch"):
        retune_batchnorm(model(), [])
    with pytest.raises(InputError, match="at least one batch"):
        evaluate(model(), [])
