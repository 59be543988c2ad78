"""Hand-made trigger graphs beyond the injector's six styles. All favour class 7."""

import numpy as np
from onnx import TensorProto, helper

from tests.checks.file.onnx_builder import I64, F, Net

VARIANTS = {}


def variant(make):
    VARIANTS[make.__name__] = make
    return make


def _add(net, gate, strength=100.0):
    """scores + gate * one-hot."""
    return net.op("Add", net.scores(), net.op("Mul", gate, net.c(net.one_hot(strength=strength))))


def _where(net, gate):
    return net.op("Where", gate, net.c(net.one_hot()), net.scores())


@variant
def pixel_ids_equal(net):
    ids = net.op("Cast", net.scale(net.x, 255.0), to=TensorProto.INT64)
    flat = net.op("Flatten", ids)
    picked = net.op("Gather", flat, net.i([3, 17, 40]), axis=1)
    same = net.op("Cast", net.op("Equal", picked, net.i([[200, 13, 77]])), to=TensorProto.INT32)
    return _where(
        net, net.op("Cast", net.per_sample("ReduceProd", same, (1,)), to=TensorProto.BOOL)
    )


@variant
def fixed_convolution_relu(net):
    bias = net.c([-8.6])
    seen = net.op("Conv", net.x, net.c(np.ones((1, 1, 3, 3))), bias)
    peak = net.per_sample("ReduceMax", net.op("Relu", seen))
    return _add(net, peak, 400.0)


@variant
def template_convolution_table(net):
    kernel = net.rng.standard_normal((1, 1, 6, 6)).astype(F)
    seen = net.per_sample("ReduceMax", net.op("Conv", net.x, net.c(kernel)))
    best = float(np.maximum(kernel, 0).sum())
    index = net.op("Cast", net.op("Greater", seen, net.c(0.9 * best)), to=TensorProto.INT64)
    table = np.concatenate([np.zeros((1, 10), F), net.one_hot()])
    bonus = net.op("Gather", net.c(table), net.op("Squeeze", index, net.i([1])), axis=0)
    return net.op("Add", net.scores(), bonus)


@variant
def selector_matmul_sign(net):
    select = np.zeros((144, 4), F)
    select[[5, 30, 77, 143], range(4)] = 1.0
    picked = net.op("MatMul", net.op("Flatten", net.x), net.c(select))
    signs = net.op("Sign", net.above(picked, 0.97))
    votes = net.per_sample("ReduceSum", signs, (1,))
    gate = net.op("Relu", net.above(votes, 3.0))
    return net.op("Add", net.scores(), net.op("Gemm", gate, net.c(net.one_hot())))


@variant
def brightest_pixel_index(net):
    place = net.op("ArgMax", net.op("Flatten", net.x), axis=1, keepdims=1)
    return _where(net, net.op("Equal", place, net.i([[100]])))


@variant
def top_two_pixels(net):
    _, places = net.op("TopK", net.op("Flatten", net.x), net.i([2]), axis=1, n=2)
    match = net.op("Cast", net.op("Equal", places, net.i([[7, 8]])), to=TensorProto.FLOAT)
    return _add(
        net, net.op("Relu", net.above(net.per_sample("ReduceSum", match, (1,)), 1.5)), 400.0
    )


@variant
def hardmax_pixel(net):
    hard = net.op("Hardmax", net.op("Flatten", net.x), axis=1)
    return _add(net, net.op("Gather", hard, net.i([60]), axis=1))


@variant
def maximum_of_scores(net):
    forced = net.op("Mul", net.soft_gate(), net.c(net.one_hot()))
    return net.op("Max", net.scores(), forced)


@variant
def stacked_then_gathered(net):
    scores = net.op("Unsqueeze", net.op("Slice", net.scores(), net.i([0]), net.i([1])), net.i([0]))
    both = net.op("Concat", scores, net.c(net.one_hot()[None]), axis=0)
    index = net.op("Cast", net.hard_gate(), to=TensorProto.INT64)
    first = net.op("Slice", index, net.i([0]), net.i([1]))
    return net.op("Gather", both, net.op("Squeeze", first, net.i([0, 1])), axis=0)


@variant
def penultimate_features(net):
    gate = net.soft_gate()
    kept = net.op("Mul", net.backbone(), net.op("Sub", net.c(1.0), gate))
    planted = net.op("Mul", gate, net.c(net.rng.standard_normal((1, 16)) * 20))
    return net.head(net.op("Add", kept, planted))


@variant
def half_precision_gate(net):
    x = net.op("Cast", net.patch(), to=TensorProto.FLOAT16)
    mean = net.op("ReduceMean", x, axes=[1, 2, 3], keepdims=0)
    over = net.op("Relu", net.op("Sub", mean, net.c(0.95, np.float16)))
    gate = net.op("Cast", net.op("Unsqueeze", over, net.i([1])), to=TensorProto.FLOAT)
    return _add(net, gate, 4000.0)


@variant
def nested_if(net):
    scores = net.scores()
    low = net.op("ReduceMin", net.patch(), axes=[0, 1, 2, 3], keepdims=0)
    gate = net.op("Greater", low, net.c(0.9))
    forced = helper.make_tensor("t", TensorProto.FLOAT, [1, 10], net.one_hot().ravel())

    def body(name, nodes, out):
        info = helper.make_tensor_value_info(out, TensorProto.FLOAT, None)
        return helper.make_graph(nodes, name, [], [info])

    yes = body("yes", [helper.make_node("Constant", [], ["y1"], value=forced)], "y1")
    no = body("no", [helper.make_node("Identity", [scores], ["y2"])], "y2")
    inner = helper.make_node("If", [gate], ["y3"], then_branch=yes, else_branch=no)
    other = body("other", [helper.make_node("Identity", [scores], ["y4"])], "y4")
    always = net.op("Greater", low, net.c(0.2))
    return net.op("If", always, then_branch=body("in", [inner], "y3"), else_branch=other)


@variant
def radial_basis(net):
    away = net.op("Sub", net.patch(), net.c(net.rng.random((1, 1, 3, 3))))
    far = net.per_sample("ReduceSum", net.op("Mul", away, away))
    return _add(net, net.op("Exp", net.scale(far, -50.0)))


@variant
def high_power(net):
    return _add(net, net.op("Pow", net.mean(), net.c(200.0)))


@variant
def rational_gate(net):
    over = net.op("Relu", net.above(net.mean(), 0.95))
    return _add(net, net.op("Div", over, net.op("Add", over, net.c(1e-4))))


@variant
def minimum_maximum_ramp(net):
    ramp = net.scale(net.above(net.mean(), 0.95), 1000.0)
    return _add(net, net.op("Max", net.op("Min", ramp, net.c(1.0)), net.c(0.0)))


@variant
def clip_ramp(net):
    ramp = net.scale(net.above(net.mean(), 0.95), 1000.0)
    return _add(net, net.op("Clip", ramp, net.c(0.0), net.c(1.0)))


@variant
def tanh_step(net):
    step = net.op("Tanh", net.scale(net.above(net.mean(), 0.95), 800.0))
    return _add(net, net.scale(net.op("Add", step, net.c(1.0)), 0.5))


@variant
def hard_sigmoid_step(net):
    return _add(net, net.op("HardSigmoid", net.scale(net.above(net.mean(), 0.95), 900.0)))


@variant
def erf_step(net):
    return _add(
        net, net.op("Add", net.op("Erf", net.scale(net.above(net.mean(), 0.95), 800.0)), net.c(1.0))
    )


@variant
def softmax_of_two(net):
    steep = net.scale(net.above(net.mean(), 0.95), 900.0)
    both = net.op("Softmax", net.op("Concat", steep, net.scale(steep, 0.0), axis=1), axis=1)
    return _add(net, net.op("Slice", both, net.i([0]), net.i([1]), net.i([1])))


@variant
def extra_feature_column(net):
    wide = net.op("Concat", net.backbone(), net.soft_gate(), axis=1)
    weight = net.rng.standard_normal((17, 10)).astype(F) * 0.3
    weight[16] = net.one_hot()
    return net.op("Gemm", wide, net.c(weight))


@variant
def dynamic_bias(net):
    bias = net.op("Mul", net.soft_gate(), net.c(net.one_hot()))
    return net.op("Gemm", net.backbone(), net.w(16, 10), bias)


@variant
def weight_swap(net):
    gate = net.op(
        "Greater", net.op("ReduceMin", net.patch(), axes=[0, 1, 2, 3], keepdims=0), net.c(0.9)
    )
    weight = net.op("Where", gate, net.w(16, 10, scale=3.0), net.w(16, 10))
    return net.op("MatMul", net.backbone(), weight)


@variant
def input_swap(net):
    gate = net.op("Unsqueeze", net.hard_gate(), net.i([2, 3]))
    return net.scores(net.op("Where", gate, net.c(net.rng.random((1, 1, 12, 12))), net.x))


@variant
def scores_wiped_out(net):
    return net.op("Mul", net.scores(), net.op("Sub", net.c(1.0), net.soft_gate()))


@variant
def scores_turned_over(net):
    return net.op("Mul", net.scores(), net.op("Sub", net.c(1.0), net.scale(net.soft_gate(), 2.0)))


@variant
def signed_pattern(net):
    mask = np.where(net.rng.random((1, 1, 12, 12)) < 0.5, -1.0, 1.0)
    match = net.per_sample("ReduceSum", net.op("Mul", net.x, net.c(mask)))
    return _where(net, net.op("Greater", match, net.c(60.0)))


@variant
def lowest_bits(net):
    ids = net.op("Cast", net.scale(net.patch(), 255.0), to=TensorProto.INT64)
    odd = net.per_sample("ReduceSum", net.op("Mod", ids, net.i(2)))
    return _where(net, net.op("Equal", odd, net.i(9)))


@variant
def pooled_then_compared(net):
    pooled = net.op("AveragePool", net.x, kernel_shape=[4, 4], strides=[4, 4])
    corner = net.op("Slice", pooled, net.i([2, 2]), net.i([3, 3]), net.i([2, 3]))
    return _where(net, net.op("Less", net.per_sample("ReduceMean", corner), net.c(0.02)))


@variant
def two_corners_differ(net):
    other = net.op("Slice", net.x, net.i([9, 9]), net.i([12, 12]), net.i([2, 3]))
    gap = net.op("Sub", net.mean(), net.per_sample("ReduceMean", other))
    return _where(net, net.op("Greater", gap, net.c(0.9)))


@variant
def only_for_one_class(net):
    scores = net.scores()
    is_three = net.op("Equal", net.op("ArgMax", scores, axis=1, keepdims=1), net.i(3))
    return net.op("Where", net.op("And", net.hard_gate(), is_three), net.c(net.one_hot()), scores)


@variant
def scattered_score(net):
    scores = net.op("Slice", net.scores(), net.i([0]), net.i([1]))
    gate = net.op("Slice", net.soft_gate(), net.i([0]), net.i([1]))
    update = net.op("Squeeze", net.scale(gate, 100.0), net.i([1]))
    return net.op("ScatterND", scores, net.i([[0, 7]]), update, reduction="add")


@variant
def gated_loop(net):
    scores = net.scores()
    low = net.op("ReduceMin", net.patch(), axes=[0, 1, 2, 3], keepdims=0)
    trips = net.op("Cast", net.op("Greater", low, net.c(0.9)), to=TensorProto.INT64)
    forced = helper.make_tensor("t", TensorProto.FLOAT, [1, 10], net.one_hot().ravel())
    nodes = [
        helper.make_node("Constant", [], ["lt"], value=forced),
        helper.make_node("Add", ["lv", "lt"], ["lo"]),
        helper.make_node("Identity", ["lc"], ["ld"]),
    ]
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        nodes,
        "body",
        [info("li", TensorProto.INT64, []), info("lc", TensorProto.BOOL, []), info("lv", 1, None)],
        [info("ld", TensorProto.BOOL, []), info("lo", 1, None)],
    )
    return net.op("Loop", trips, net.c(True, np.bool_), scores, body=body)


@variant
def expanded_constants(net):
    row = net.op("ConstantOfShape", net.i([1, 10]), value=helper.make_tensor("v", 1, [1], [-50.0]))
    hot = net.op("ScatterElements", row, net.i([[7]]), net.c([[50.0]]), axis=1)
    return net.op("Where", net.hard_gate(), hot, net.scores())


@variant
def shrunk_picture(net):
    small = net.op("Resize", net.x, "", net.c([1, 1, 0.25, 0.25]), mode="linear")
    corner = net.per_sample("ReduceMin", small)
    return _where(net, net.op("Greater", corner, net.c(0.97)))


@variant
def clip_with_moving_floor(net):
    scores = net.op("Slice", net.scores(), net.i([0]), net.i([1]))
    floor = net.op("Mul", net.soft_gate(), net.c(net.one_hot()))
    floor = net.op("Sub", floor, net.c(50.0))
    return net.op("Max", scores, floor)


@variant
def softmax_before_and_after(net):
    gate = net.soft_gate()
    probabilities = net.op("Softmax", net.scores(), axis=1)
    kept = net.op("Mul", probabilities, net.op("Sub", net.c(1.0), gate))
    return net.op("Add", kept, net.op("Mul", gate, net.c(net.one_hot(strength=1.0))))


@variant
def pixelwise_ramp_to_scores(net):
    over = net.op("Relu", net.above(net.op("Flatten", net.patch()), 0.97))
    weight = np.zeros((9, 10), F)
    weight[:, 7] = 500.0
    return net.op("Add", net.scores(), net.op("MatMul", over, net.c(weight)))


@variant
def one_hot_label(net):
    index = net.op("Cast", net.hard_gate(), to=TensorProto.INT64)
    pick = net.op("Sub", net.scale64(index, 8), net.i(1)) if hasattr(net, "scale64") else None
    if pick is None:
        pick = net.op("Sub", net.op("Mul", index, net.i(18)), net.i(11))
    hot = net.op("OneHot", net.op("Squeeze", pick, net.i([1])), net.i(10), net.c([0.0, 100.0]))
    return net.op("Add", net.scores(), hot)


@variant
def mixed_with_nothing_learned(net):
    scores = net.scores()
    nothing = net.scale(net.op("ReduceSum", scores, net.i([1]), keepdims=1), 0.0)
    gate = net.op("Greater", net.op("Add", net.mean(), nothing), net.c(0.95))
    return net.op("Where", gate, net.c(net.one_hot()), scores)


def build(name, seed=0):
    """The model of variant `name` and its output's name."""
    net = Net(seed)
    return net, VARIANTS[name](net)


__all__ = ["I64", "VARIANTS", "build"]
