"""ONNX operators by what they do to a value: the tables `onnx_flow` works from."""

from __future__ import annotations

from auditor.checks.file.onnx_graph import Node
from auditor.checks.file.onnx_weights import LINEAR, RECURRENT, words

MOVES = words(
    "Identity Cast CastLike Add Sub Mul Div Neg Sum Mean Reshape Flatten Squeeze Unsqueeze "
    "Transpose Slice Gather GatherND GatherElements Concat Split ReduceMean ReduceSum AveragePool "
    "GlobalAveragePool Pad BatchNormalization Dropout Resize Upsample Expand Tile DepthToSpace "
    "SpaceToDepth Conv Gemm MatMul ConvTranspose Einsum DequantizeLinear Trilu CumSum "
    "SequenceConstruct SequenceAt SplitToSequence ConcatFromSequence ReverseSequence"
)
"""Operators that stay linear in one input while the others are constant."""

HARD = words(
    "Greater Less GreaterOrEqual LessOrEqual Equal Not And Or Xor Sign Floor Ceil Round ArgMax "
    "ArgMin Hardmax Mod IsNaN IsInf OneHot NonZero Unique BitShift BitwiseAnd BitwiseOr BitwiseXor "
    "BitwiseNot Binarizer ai.onnx.ml::Binarizer StringNormalizer QuantizeLinear TopK"
)
"""Operators whose results jump."""

MIXES = (
    words(
        "Slice Gather GatherND GatherElements Split ReduceMean ReduceSum ReduceMin ReduceMax "
        "ReduceProd ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceSumSquare "
        "GlobalAveragePool GlobalMaxPool "
        "GlobalLpPool AveragePool MaxPool LpPool ArgMax ArgMin TopK CumSum Einsum Hardmax Softmax "
        "LogSoftmax NonZero Compress Unique Det Loop Scan If SplitToSequence Flatten GridSample "
        "AffineGrid LpNormalization MeanVarianceNormalization SpaceToDepth"
    )
    | LINEAR
)
"""Operators after which a value no longer belongs to one position of the input."""

SHAPE_OF = frozenset({"Shape", "Size", "ConstantOfShape", "EyeLike", "RandomNormalLike"})
SHAPE_ARGUMENT = frozenset({"Reshape", "Expand", "Resize", "Upsample", "Tile", "Pad", "Split"})
"""Operators whose later inputs are sizes, not values."""

COUNTS = frozenset({"NonZero", "Compress", "Unique"})
"""Operators whose result has as many entries as the data say."""

PLACES = words("Slice Gather GatherND GatherElements Split Compress TopK")
"""Operators that take values from chosen places."""

MODELS_ML = words(
    "TreeEnsemble TreeEnsembleClassifier TreeEnsembleRegressor LinearClassifier LinearRegressor "
    "SVMClassifier SVMRegressor"
)
LEARNED_OPS = RECURRENT | frozenset(f"ai.onnx.ml::{name}" for name in MODELS_ML)


def jumps(node: Node) -> bool:
    """True when the result of `node` jumps: `HARD`, or a cast to whole numbers."""
    return node.op in HARD or (node.op == "Cast" and _to_integer(node))


def _to_integer(node: Node) -> bool:
    return int(node.attrs.get("to", 1)) in (2, 3, 4, 5, 6, 7, 9, 12, 13)
