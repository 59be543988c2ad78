"""Soundness: what is certified cannot be broken, by attack or by sampling."""

import pytest
import torch
from torch import nn

from auditor.attacks.pgd import PGD
from auditor.attacks.worst_case import standard_attacks, worst_case
from auditor.bounds.certify import Certifier
from auditor.bounds.graph import Affine, Unsupported
from auditor.bounds.trace import trace
from tests.attacks.nets import digits, trained

EPSILONS = (0.01, 0.04, 0.1)
NETS = ["mlp", "sigmoid", "cnn", "residual"]


def samples(n=50):
    _, _, x, y = digits()
    return x[:n], y[:n]


@pytest.mark.parametrize("kind", NETS)
def test_certified_samples_are_never_broken(kind):
    """200 samples over four networks; certificate <= attack at every epsilon."""
    net = trained(kind, adversarial=0.08, epochs=12)
    x, y = samples()
    certifier = Certifier(net, x)
    certifier.measure_margin(x)
    assert certifier.margin < 1e-3
    shares = []
    for epsilon in EPSILONS:
        certificate = certifier.certify(x, y, epsilon)
        attacks = (PGD(epsilon, steps=30, restarts=2), *standard_attacks(epsilon, steps=15,
                   queries=100, classes=5))  # fmt: skip
        broken = worst_case(net, x, y, attacks).result.fooled
        assert not (certificate.certified & broken).any(), f"unsound at {epsilon}"
        interval = certifier.certify(x, y, epsilon, method="interval")
        assert not (interval.certified & broken).any()
        assert (interval.bound <= certificate.bound + 1e-9).all()
        shares.append(int(certificate.certified.sum()))
    assert shares == sorted(shares, reverse=True)
    assert shares[0] >= 40, "a certificate that certifies nothing is no certificate"


@pytest.mark.parametrize("kind", NETS)
def test_bounds_hold_for_every_node_at_random_points(kind):
    from auditor.bounds.crown import Crown

    net = trained(kind, adversarial=0.08, epochs=12)
    x = samples(4)[0].double()
    network = trace(net, x.float())
    low, high = (x - 0.1).clamp(0, 1), (x + 0.1).clamp(0, 1)
    crown = Crown(network, low, high)
    generator = torch.Generator().manual_seed(1)
    for number in range(60):
        t = torch.rand(x.shape, generator=generator, dtype=torch.float64)
        t = t.round() if number % 2 else t
        for value, (below, above) in zip(
            network.values(low + t * (high - low)), crown.ends, strict=True
        ):
            assert (value >= below - 1e-9).all() and (value <= above + 1e-9).all()


def test_crown_is_exact_for_a_linear_classifier():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Linear(16, 10))
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    x, _ = samples(20)
    y = net(x).argmax(1)
    found = Certifier(net, x).certify(x, y, 0.05)
    weight = (net[2].weight @ net[1].weight).double()
    bias = (net[2].weight @ net[1].bias + net[2].bias).double()
    low, high = (x - 0.05).clamp(0, 1), (x + 0.05).clamp(0, 1)
    for i in range(20):
        rows = weight[y[i]] - weight
        worst = (rows.clamp_min(0) @ low[i].flatten().double()
                 + rows.clamp_max(0) @ high[i].flatten().double() + bias[y[i]] - bias)  # fmt: skip
        worst[y[i]] = float("inf")
        assert found.bound[i] == pytest.approx(float(worst.min()), abs=1e-5)


def test_transposed_affine_steps_match_the_step():
    net = trained("residual", adversarial=0.08, epochs=12)
    x = samples(3)[0].double()
    network = trace(net, x.float())
    values = network.values(x)
    for node, value in zip(network.nodes, values, strict=True):
        if isinstance(node.op, Affine):
            inputs = [values[i] for i in node.inputs]
            held = torch.randn(5, *value.shape, dtype=torch.float64)
            pulled = node.op.transpose(held, inputs)
            parts = [(p * v).flatten(2).sum(2) for p, v in zip(pulled, inputs, strict=True)]
            constant = (held * node.op.constant(*inputs)).flatten(2).sum(2)
            whole = (held * value).flatten(2).sum(2)
            assert torch.allclose(sum(parts) + constant, whole, atol=1e-8)


def test_wrong_samples_are_never_certified():
    net, (x, y) = trained("cnn"), samples(20)
    certifier = Certifier(net, x)
    assert not certifier.certify(x, (y + 1) % 10, 0.0).certified.any()
    right = net(x).argmax(1) == y
    assert torch.equal(certifier.certify(x, y, 0.0).certified, right)


def test_batches_and_padding_do_not_change_the_bound():
    net, (x, y) = trained("cnn"), samples(11)
    one = Certifier(net, x, batch=4).certify(x, y, 0.03).bound
    two = Certifier(net, x, batch=16).certify(x, y, 0.03).bound
    assert torch.allclose(one, two, atol=1e-8)


def test_a_deadline_leaves_the_rest_uncertified():
    net, (x, y) = trained("mlp"), samples(12)
    certifier = Certifier(net, x, batch=4)
    asked = iter([False] + [True] * 1000)
    found = certifier.certify(x, y, 0.001, stop=lambda: next(asked))
    assert not found.complete and not found.certified[4:].any()


class Clamped(nn.Module):
    def forward(self, x):
        x = torch.clamp((x - 0.3) / 0.4, 0.1, 0.9)
        x = torch.maximum(x, torch.tensor(0.2)) - torch.clamp_max(x, 0.5)
        x = nn.functional.pad(nn.functional.relu6(3 * x), (1, 1, 0, 0), value=0.4)
        x = torch.cat([x, nn.functional.leaky_relu(0.5 - x, 0.1)], 1)
        return x.mean(1).flatten(1) @ torch.linspace(-1, 1, 400).reshape(80, 5).to(x)


def test_less_usual_operators_are_bounded_soundly():
    x, _ = samples(20)
    net = Clamped()
    y = net(x).argmax(1)
    certifier = Certifier(net, x)
    found = certifier.certify(x, y, 0.02)
    assert found.certified.any()
    broken = PGD(0.02, steps=20)(net, x, y).fooled
    assert not (broken & found.certified).any()


class Attention(nn.Module):
    def forward(self, x):
        return (x * x.mean((2, 3), keepdim=True)).flatten(1)[:, :10]


class Gelu(nn.Module):
    def forward(self, x):
        return nn.functional.gelu(x).flatten(1)


class Mixed(nn.Module):
    def forward(self, x):
        return (x - x.mean(0, keepdim=True)).flatten(1)


class Branching(nn.Module):
    def forward(self, x):
        if bool(x.sum() > 20):
            return x.flatten(1)
        return -x.flatten(1)


class Constant(nn.Module):
    def forward(self, x):
        return torch.ones(x.shape[0], 3)


@pytest.mark.parametrize(
    ("net", "word"),
    [
        (Attention(), "product"),
        (Gelu(), "gelu"),
        (Mixed(), "batch"),
        (Branching(), "traced"),
        (Constant(), "depend"),
        (nn.Sequential(nn.Flatten(), nn.Flatten(0, -1)), "view"),
    ],
    ids=lambda v: type(v).__name__,
)
def test_what_cannot_be_bounded_is_refused_by_name(net, word):
    with pytest.raises(Unsupported, match=word):
        Certifier(net, samples(4)[0])


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
@pytest.mark.parametrize("kind", NETS)
def test_torchscript_gets_the_same_certificate(kind):
    net, (x, y) = trained(kind, adversarial=0.08, epochs=12), samples(8)
    scripted = torch.jit.script(net)
    one = Certifier(net, x).certify(x, y, 0.03).bound
    two = Certifier(scripted, x).certify(x, y, 0.03).bound
    assert torch.allclose(one, two, atol=1e-6)


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_torchscript_branches_on_values_are_refused():
    with pytest.raises(Unsupported, match="traced"):
        Certifier(torch.jit.script(Branching()), samples(4)[0])
