"""Graphs that resemble triggers and are none: what the rules must stay quiet about."""

import numpy as np
from onnx import TensorProto, helper

from tests.checks.file.onnx_builder import F, Net

BENIGN = {}


def benign(make):
    BENIGN[make.__name__] = make
    return make


@benign
def clipped_input(net):
    return net.scores(net.op("Clip", net.x, net.c(0.0), net.c(1.0)))


@benign
def normalised_inside(net):
    mean = net.op("ReduceMean", net.x, axes=[1, 2, 3], keepdims=1)
    centred = net.op("Sub", net.x, mean)
    spread = net.op("Sqrt", net.op("ReduceMean", net.op("Mul", centred, centred), axes=[1, 2, 3]))
    return net.scores(net.op("Div", centred, net.op("Max", spread, net.c(1e-4))))


@benign
def scaled_when_bytes(net):
    top = net.op("ReduceMax", net.x, keepdims=1)
    return net.scores(
        net.op("Where", net.op("Greater", top, net.c(1.5)), net.scale(net.x, 1 / 255), net.x)
    )


@benign
def nan_scrubbed(net):
    return net.scores(net.op("Where", net.op("IsNaN", net.x), net.c(0.0), net.x))


@benign
def binarised_input(net):
    return net.scores(net.op("Cast", net.op("Greater", net.x, net.c(0.5)), to=TensorProto.FLOAT))


@benign
def soft_experts(net):
    gate = net.op("Softmax", net.op("MatMul", net.op("Flatten", net.x), net.w(144, 3)), axis=1)
    total = None
    for index in range(3):
        part = net.op("Slice", gate, net.i([index]), net.i([index + 1]), net.i([1]))
        term = net.op("Mul", part, net.scores())
        total = term if total is None else net.op("Add", total, term)
    return total


@benign
def one_of_two_experts(net):
    score = net.op("MatMul", net.op("Flatten", net.x), net.w(144, 1))
    return net.op("Where", net.op("Greater", score, net.c(0.0)), net.scores(), net.scores())


@benign
def sigmoid_of_two_experts(net):
    gate = net.op("Sigmoid", net.op("MatMul", net.op("Flatten", net.x), net.w(144, 1, scale=2.0)))
    rest = net.op("Mul", net.op("Sub", net.c(1.0), gate), net.scores())
    return net.op("Add", net.op("Mul", gate, net.scores()), rest)


@benign
def top_expert(net):
    gate = net.op("MatMul", net.op("Flatten", net.x), net.w(144, 4))
    best = net.op("OneHot", net.op("ArgMax", gate, axis=1, keepdims=0), net.i(4), net.c([0.0, 1.0]))
    experts = [net.op("Unsqueeze", net.scores(), net.i([1])) for _ in range(4)]
    stacked = net.op("Concat", *experts, axis=1)
    return net.op(
        "ReduceSum",
        net.op("Mul", stacked, net.op("Unsqueeze", best, net.i([2]))),
        net.i([1]),
        keepdims=0,
    )


@benign
def squeeze_and_excite(net):
    h = net.op("Relu", net.op("Conv", net.x, net.w(8, 1, 3, 3), net.w(8)))
    s = net.op("Relu", net.op("Conv", net.op("GlobalAveragePool", h), net.w(4, 8, 1, 1)))
    s = net.op("HardSigmoid", net.op("Conv", s, net.w(8, 4, 1, 1)))
    return net.head(net.op("Flatten", net.op("GlobalAveragePool", net.op("Mul", h, s))), 8)


@benign
def hard_swish(net):
    h = net.op("HardSwish", net.op("Conv", net.x, net.w(8, 1, 3, 3), net.w(8)))
    return net.head(net.op("Flatten", net.op("GlobalAveragePool", h)), 8)


@benign
def answers_scaled_back(net):
    """Reversible instance normalisation: the input's statistics return at the output."""
    mean = net.op("ReduceMean", net.x, axes=[1, 2, 3], keepdims=1)
    centred = net.op("Sub", net.x, mean)
    spread = net.op("Sqrt", net.op("ReduceMean", net.op("Mul", centred, centred), axes=[1, 2, 3]))
    spread = net.op("Clip", spread, net.c(1e-5))
    y = net.scores(net.op("Div", centred, spread))
    y = net.op("Mul", y, net.op("Flatten", spread))
    return net.op("Add", y, net.op("Flatten", mean))


@benign
def brightness_beside_features(net):
    bright = net.op("Relu", net.per_sample("ReduceMean", net.x))
    return net.head(net.op("Concat", net.backbone(), bright, axis=1), 17)


@benign
def abstains_when_unsure(net):
    p = net.op("Softmax", net.scores(), axis=1)
    sure = net.op("Greater", net.op("ReduceMax", p, axes=[1], keepdims=1), net.c(0.5))
    return net.op("Where", sure, p, net.c(np.full((1, 10), 0.1)))


@benign
def early_exit(net):
    first, second = net.scores(), net.scores()
    best = net.op("ReduceMax", net.op("Softmax", first, axis=1), axes=[0, 1], keepdims=0)
    info = helper.make_tensor_value_info
    yes = helper.make_graph(
        [helper.make_node("Identity", [first], ["e1"])], "y", [], [info("e1", 1, None)]
    )
    no = helper.make_graph(
        [helper.make_node("Identity", [second], ["e2"])], "n", [], [info("e2", 1, None)]
    )
    return net.op("If", net.op("Greater", best, net.c(0.9)), then_branch=yes, else_branch=no)


@benign
def flipped_and_averaged(net):
    flipped = net.op("Slice", net.x, net.i([11]), net.i([-100]), net.i([3]), net.i([-1]))
    return net.scale(net.op("Add", net.scores(), net.scores(flipped)), 0.5)


@benign
def fixed_blur(net):
    kernel = np.outer([1, 2, 1], [1, 2, 1]).reshape(1, 1, 3, 3) / 16
    return net.scores(net.op("Conv", net.x, net.c(kernel), pads=[1, 1, 1, 1]))


@benign
def edges_beside_picture(net):
    sobel = np.array([[1, 0, -1], [2, 0, -2], [1, 0, -1]], F).reshape(1, 1, 3, 3)
    edges = net.op("Abs", net.op("Conv", net.x, net.c(sobel), pads=[1, 1, 1, 1]))
    both = net.op("Concat", net.x, edges, axis=1)
    return net.head(net.backbone(both, channels=2))


@benign
def partial_convolution(net):
    mask = net.op("Cast", net.op("Greater", net.x, net.c(0.05)), to=TensorProto.FLOAT)
    h = net.op("Conv", net.x, net.w(8, 1, 3, 3), pads=[1, 1, 1, 1])
    seen = net.op("Conv", mask, net.c(np.ones((1, 1, 3, 3))), pads=[1, 1, 1, 1])
    h = net.op("Mul", net.op("Div", h, net.op("Clip", seen, net.c(1.0))), mask)
    return net.head(net.op("Flatten", net.op("GlobalAveragePool", net.op("Relu", h))), 8)


@benign
def dynamic_quantisation(net):
    q, scale, zero = net.op("DynamicQuantizeLinear", net.op("Flatten", net.x), n=3)
    weight = net.c(net.rng.integers(-127, 127, (144, 16)), np.int8)
    product = net.op("Cast", net.op("MatMulInteger", q, weight, zero), to=TensorProto.FLOAT)
    h = net.op("Relu", net.op("Mul", product, net.scale(scale, 0.01)))
    return net.head(h)


@benign
def quantised_input(net):
    q = net.op("QuantizeLinear", net.x, net.c(1 / 255), net.c(0, np.uint8))
    return net.scores(net.op("DequantizeLinear", q, net.c(1 / 255), net.c(0, np.uint8)))


@benign
def label_of_a_linear_model(net):
    score = net.op("Sigmoid", net.op("MatMul", net.op("Flatten", net.x), net.w(144, 1)))
    return net.op("Where", net.op("Greater", score, net.c(0.5)), net.c([1.0]), net.c([0.0]))


@benign
def picture_restored(net):
    h = net.op("Relu", net.op("Conv", net.x, net.w(8, 1, 3, 3), pads=[1, 1, 1, 1]))
    h = net.op("Conv", h, net.w(1, 8, 3, 3), pads=[1, 1, 1, 1])
    return net.op("Clip", net.op("Add", net.x, h), net.c(0.0), net.c(1.0))


@benign
def spatial_transformer(net):
    theta = net.op("Gemm", net.backbone(), net.w(16, 6), net.w(6))
    theta = net.op("Reshape", theta, net.i([-1, 2, 3]))
    first = net.op("Slice", net.op("Shape", net.x), net.i([0]), net.i([1]))
    grid = net.op("AffineGrid", theta, net.op("Concat", first, net.i([1, 12, 12]), axis=0))
    return net.scores(net.op("GridSample", net.x, grid))


@benign
def dynamic_shapes(net):
    features = net.backbone()
    size = net.op("Gather", net.op("Shape", net.x), net.i(0), axis=0)
    count = net.op("Unsqueeze", size, net.i([0]))
    big = net.op("Greater", size, net.i(1000))
    ones = net.op(
        "Expand",
        net.op("Cast", big, to=TensorProto.FLOAT),
        net.op("Concat", count, net.i([1]), axis=0),
    )
    return net.head(net.op("Concat", features, ones, axis=1), 17)


@benign
def two_channels_of_statistics(net):
    stats = [net.per_sample(kind, net.x) for kind in ("ReduceMean", "ReduceMax", "ReduceMin")]
    h = net.op("Tanh", net.op("Gemm", net.op("Concat", *stats, axis=1), net.w(3, 24), net.w(24)))
    return net.head(net.op("Concat", net.backbone(), h, axis=1), 40)


TOKENS = {}


def tokens(make):
    TOKENS[make.__name__] = make
    return make


def _embed(net, width=16):
    return net.op("Gather", net.w(1000, width), net.x, axis=0)


def _encode(net):
    h = _embed(net)
    return net.op("Relu", net.op("Add", net.op("MatMul", h, net.w(16, 16)), net.w(16)))


@tokens
def mean_over_real_tokens(net):
    real = net.op("Cast", net.op("Not", net.op("Equal", net.x, net.i(1))), to=TensorProto.FLOAT)
    kept = net.op("Mul", _encode(net), net.op("Unsqueeze", real, net.i([2])))
    total = net.op("ReduceSum", kept, net.i([1]), keepdims=0)
    count = net.op("ReduceSum", real, net.i([1]), keepdims=1)
    return net.head(net.op("Div", total, net.op("Clip", count, net.c(1.0))))


@tokens
def last_real_token(net):
    pad = net.op("Cast", net.op("Equal", net.x, net.i(0)), to=TensorProto.INT64)
    last = net.op("Sub", net.op("ArgMax", pad, axis=1, keepdims=1), net.i(1))
    last = net.op("Mod", net.op("Add", last, net.i(8)), net.i(8))
    scores = net.op("MatMul", _encode(net), net.w(16, 10))
    return net.op("GatherND", scores, last, batch_dims=1)


@tokens
def end_of_text_token(net):
    place = net.op("ArgMax", net.x, axis=1, keepdims=1)
    picked = net.op("GatherND", _encode(net), place, batch_dims=1)
    return net.op("MatMul", picked, net.w(16, 10))


@tokens
def positions_from_mask(net):
    mask = net.op("Cast", net.op("Not", net.op("Equal", net.x, net.i(1))), to=TensorProto.INT64)
    place = net.op("Mul", net.op("CumSum", mask, net.i(1)), mask)
    h = net.op("Add", _embed(net), net.op("Gather", net.w(64, 16), place, axis=0))
    h = net.op("Relu", net.op("MatMul", h, net.w(16, 16)))
    return net.head(net.op("ReduceMean", h, axes=[1], keepdims=0))


@tokens
def lstm_with_lengths(net):
    real = net.op("Cast", net.op("Greater", net.x, net.i(0)), to=TensorProto.INT32)
    lengths = net.op("ReduceSum", real, net.i([1]), keepdims=0)
    steps = net.op("Transpose", _embed(net), perm=[1, 0, 2])
    _, last = net.op(
        "LSTM", steps, net.w(1, 32, 16), net.w(1, 32, 8), "", lengths, hidden_size=8, n=2
    )
    return net.head(net.op("Squeeze", last, net.i([0])), 8)


@tokens
def attention_with_padding(net):
    h = _embed(net)
    q, k, v = (net.op("MatMul", h, net.w(16, 16)) for _ in range(3))
    weights = net.op("MatMul", q, net.op("Transpose", k, perm=[0, 2, 1]))
    pad = net.op("Unsqueeze", net.op("Equal", net.x, net.i(0)), net.i([1]))
    weights = net.op("Softmax", net.op("Where", pad, net.c(-1e9), weights), axis=-1)
    return net.head(net.op("ReduceMean", net.op("MatMul", weights, v), axes=[1], keepdims=0))


def build(name, seed=0):
    """A net and the name of its output."""
    if name in TOKENS:
        net = Net(seed, shape=("N", 8), dtype=TensorProto.INT64)
        return net, TOKENS[name](net)
    net = Net(seed, opset=20 if name == "spatial_transformer" else 17)
    if net.opset >= 18:
        pass
    return net, BENIGN[name](net)
