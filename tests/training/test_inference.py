"""Quantised inference: copies, re-tuned normalisations, evaluation."""

import math

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import hfp8sim as hs  # noqa: E402
from hfp8sim import InputError, training  # noqa: E402
from hfp8sim.training.inference import calibrate, evaluate, quantise, retune_batchnorm  # noqa: E402


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


# -- batch normalisation -------------------------------------------------------------------------------


class Deep(nn.Module):
    """Two normalisations that are registered in the other order than they run; the second runs twice."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(4)
        self.twice, self.once = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
        self.a, self.b = nn.Linear(4, 3), nn.Linear(3, 3)

    def forward(self, x):
        y = self.once(self.a(x)).relu()
        return self.twice(self.b(self.twice(y)))


def test_layers_are_retuned_in_forward_order_over_all_batches():
    deep = Deep().eval()
    data = [torch.randn(n, 4, generator=torch.Generator().manual_seed(n)) for n in (5, 8, 3)]
    retune_batchnorm(deep, iter(data))
    expected = Deep().eval()
    with torch.no_grad():
        x = torch.cat(data)
        a = expected.a(x)
        expected.once.running_mean, expected.once.running_var = a.mean(0), a.var(0, correction=0)
        y = expected.once(a).relu()
        seen = torch.cat(
            [y, expected.b(expected.twice(y))]
        )  # both calls, behind the old statistics
        expected.twice.running_mean = seen.mean(0)
        expected.twice.running_var = seen.var(0, correction=0)
        for name, value in deep.state_dict().items():
            assert torch.allclose(value, expected.state_dict()[name], atol=1e-6), name
    assert not deep._forward_pre_hooks and not deep.once._forward_pre_hooks


def test_retuned_statistics_are_averages_over_the_batches():
    trained, data = model(), batches(5)
    norm, inputs = trained[1], []
    trained[0].register_forward_hook(lambda m, args, y: inputs.append(y.detach()))
    retune_batchnorm(trained, (x for x, _ in data), "one-pass")
    means = torch.stack([y.mean((0, 2, 3)) for y in inputs]).mean(0)
    variances = torch.stack([y.var((0, 2, 3)) for y in inputs]).mean(0)
    assert torch.allclose(norm.running_mean, means, atol=1e-6)
    assert torch.allclose(norm.running_var, variances, atol=1e-6)
    assert norm.momentum == 0.1 and not norm.training and not trained.training


def test_running_averages_go_on():
    trained, data = model(), batches(2)
    with torch.no_grad():
        first, second = (trained[0](x).mean((0, 2, 3)) for x, _ in data)
    retune_batchnorm(trained, (x for x, _ in data), "running")
    assert torch.allclose(trained[1].running_mean, 0.09 * first + 0.1 * second, atol=1e-6)


@pytest.mark.parametrize("how", ["layers", "one-pass"])
def test_retuning_leaves_weights_and_modes(how):
    trained = quantise(model(), "hfp8")
    trained[4].train()
    before = {name: p.clone() for name, p in trained.named_parameters()}
    retune_batchnorm(trained, [x for x, _ in batches(2)], how)
    assert all(torch.equal(p, before[name]) for name, p in trained.named_parameters())
    assert trained[4].training and not trained[1].training


def test_retuning_needs_batches_and_normalisations():
    with pytest.raises(InputError, match="no batch normalisation"):
        retune_batchnorm(nn.Linear(2, 2), [torch.ones(1, 2)])
    with pytest.raises(InputError, match="at least one batch"):
        retune_batchnorm(model(), [])
    with pytest.raises(InputError, match="no batch normalisation"):
        retune_batchnorm(nn.BatchNorm1d(2, track_running_stats=False), [torch.ones(2, 2)])
    with pytest.raises(InputError, match="unknown way to re-tune 'layer'"):
        retune_batchnorm(model(), [], "layer")
    with pytest.raises(InputError, match="at least one batch"):
        evaluate(model(), [])


# -- calibration ---------------------------------------------------------------------------------------


def test_calibrated_scales_are_the_largest_that_do_not_saturate():
    """1-4-3 of bias 11 ends at 30."""
    linear = nn.Linear(4, 2, bias=False)
    with torch.no_grad():
        linear.weight.fill_(0.25)
        linear.weight[0, 0] = -0.5
    x = torch.full((3, 4), 31.0)
    quantised = quantise(nn.Sequential(linear), "hfp8", policy="", calibrate=[x / 4, x, x / 8])
    emulation = training.emulation_of(quantised)
    # 31 · 2^−1 ≤ 30 < 31, and 0.5 · 2^5 ≤ 30 < 0.5 · 2^6
    assert emulation.scales.exponents == {("0", "x"): -1, ("0", "w"): 5}
    y = quantised(x)
    shares = quantised[0].products.shares
    assert shares["x"].saturated == 0 and shares["x"].size == 12
    assert torch.equal(y, quantised(x)) and not emulation.observing
    plain = quantise(nn.Sequential(linear), "hfp8", policy="")
    plain(x)
    assert plain[0].products.shares["x"].saturated == 12


def test_calibrated_scales_leave_room_for_sums():
    """DLFloat16 ends at 2^33, and so do its sums."""
    linear = nn.Linear(300, 2)
    quantised = quantise(
        nn.Sequential(linear), "hfp8", policy="last=fp16", calibrate=[torch.ones(1, 300)]
    )
    assert training.emulation_of(quantised).scales.exponents["0", "x"] == 8
    torch.testing.assert_close(
        quantised(torch.ones(1, 300)), linear(torch.ones(1, 300)), atol=0.02, rtol=0
    )


def test_calibration_observes_exact_results():
    """Behind a layer that saturates by the profile's scale, calibration sees what PyTorch computes."""
    first, second = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        first.weight.fill_(10.0)
        second.weight.fill_(1.0)
    quantised = quantise(
        nn.Sequential(first, second), "hfp8", policy="", calibrate=[torch.full((1, 2), 400.0)]
    )
    assert training.emulation_of(quantised).scales.exponents["1", "x"] == -9  # 8000 · 2^−8 > 30


def test_calibration_is_refused_without_batches_or_emulation():
    with pytest.raises(InputError, match="at least one batch"):
        quantise(model(), "hfp8", calibrate=[])
    with pytest.raises(InputError, match="the model is not converted"):
        calibrate(model(), [torch.ones(1, 1, 4, 4)])


# -- layers --------------------------------------------------------------------------------------------


def test_findings_of_layers_by_hand():
    """The second layer's operands are coarse; behind the first, its inputs are those of the quantised network."""
    torch.manual_seed(6)
    trained = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    x = torch.randn(20, 8)
    quantised = quantise(trained, hs.get_profile("hfp8"))
    result = evaluate(quantised, [(x, torch.zeros(20, dtype=torch.int64))], trained, layers=True)
    first, second = result.layers
    assert [layer.name for layer in result.layers] == ["0", "2"] and first.profile == "hfp8"
    with torch.no_grad():
        inside = quantised[:2](x)

        def sqnr(exact, y):
            exact, y = exact.double(), y.double()
            return 10 * math.log10((exact.square().sum() / (y - exact).square().sum()).item())

        assert first.sqnr == pytest.approx(sqnr(trained[0](x), quantised[0](x)))
        assert first.reference_sqnr == pytest.approx(first.sqnr)
        assert second.sqnr == pytest.approx(sqnr(trained[2](inside), quantised[2](inside)))
        assert second.reference_sqnr == pytest.approx(sqnr(trained(x), quantised(x)))
        assert second.reference_sqnr == pytest.approx(result.logit_sqnr)
    assert result.worst_layer is min(result.layers, key=lambda layer: layer.sqnr)
    assert f"worst layer {result.worst_layer.name}" in str(result)
    assert not quantised[0]._forward_hooks and not trained[0]._forward_hooks


def test_findings_count_saturated_and_flushed_operands():
    linear = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
    quantised = quantise(nn.Sequential(linear), "hfp8", policy="")
    x = torch.tensor([[100.0, 2.0**-30]])
    layer = evaluate(quantised, [(x, torch.zeros(1, dtype=torch.int64))], layers=True).layers[0]
    assert layer.saturated == 1 / 6 and layer.flushed == 1 / 6 and layer.reference_sqnr is None


def test_findings_of_attention_and_recurrent_layers():
    """Layers of several products, with the plain layer inside a module that is emulated."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
            self.lstm = nn.LSTM(8, 4, batch_first=True)

        def forward(self, x):
            return self.lstm(self.attention(x, x, x, need_weights=False)[0])[0]

    torch.manual_seed(0)
    quantised, x = quantise(Net(), "hfp8", policy=""), torch.randn(2, 5, 8)
    result = evaluate(
        quantised, [(x, torch.zeros(2, 5, dtype=torch.int64))], Net().eval(), layers=True
    )
    assert [layer.kind for layer in result.layers] == ["MultiheadAttention", "LSTM"]
    assert all(15 < layer.sqnr < 60 for layer in result.layers)


# -- direct quantisation -------------------------------------------------------------------------------


def test_direct_quantisation_has_its_controls():
    trained, data = model(), batches(3)
    rows = training.quantise_directly(trained, "hfp8", data, [x for x, _ in data], policy="")
    assert [row.form for row in rows] == ["fp32", "fp32, re-tuned", "hfp8", "hfp8, re-tuned"]
    assert rows[0].evaluation == evaluate(trained, data)
    for row in rows:
        assert (row.evaluation.logit_sqnr is None) == (row.form == "fp32")
        assert bool(row.evaluation.layers) == row.form.startswith("hfp8")
    assert trained[1].running_mean.eq(0).all() and rows[2].model[1].running_mean.eq(0).all()
    assert not rows[3].model[1].running_mean.eq(0).any()
    plain = training.quantise_directly(
        nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), "hfp8", data, retune=None
    )
    assert [row.form for row in plain] == ["fp32", "hfp8"]
    with pytest.raises(InputError, match="need batches of training inputs"):
        training.quantise_directly(trained, "hfp8", data)
