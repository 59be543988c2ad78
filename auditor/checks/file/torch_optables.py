"""Operators by what they do to a value: the tables `torch_ops` works from."""

from __future__ import annotations


def names(text: str) -> frozenset[str]:
    """A set of words."""
    return frozenset(text.split())


ALIASES = {
    "multiply": "mul",
    "divide": "div",
    "true_divide": "div",
    "subtract": "sub",
    "absolute": "abs",
    "negative": "neg",
    "greater": "gt",
    "greater_equal": "ge",
    "less": "lt",
    "less_equal": "le",
    "not_equal": "ne",
    "concatenate": "cat",
}
"""Second names that TorchScript keeps as they were written."""

SHAPES = names(
    """size dim ndim numel nelement shape sym_size sym_numel stride storage_offset dtype device
    layout is_cuda is_floating_point is_complex is_same_size element_size get_device
    requires_grad type is_quantized is_sparse is_nested is_contiguous format warn
    get_autocast_dtype len __isnot__ __is__ is_autocast_enabled is_grad_enabled device_count
    _shape_as_tensor"""
)
RAGGED = names("nonzero masked_select unique unique_consecutive unique_dim _unique2 argwhere")
SIZES = names("size numel nelement len shape sym_size sym_numel _shape_as_tensor")
CREATE = names(
    """zeros ones full empty zeros_like ones_like empty_like full_like new_zeros new_ones new_full
    new_empty rand randn randint rand_like randn_like arange eye linspace randperm
    tril_indices triu_indices scalar_tensor uninitialized Uninitialized normal bernoulli
    hann_window new_tensor"""
)
REDUCE = names(
    """sum mean any all max min amax amin prod norm std var logsumexp item count_nonzero median
    quantile argmax argmin dist cosine_similarity pairwise_distance dot vdot trace mse_loss
    l1_loss linalg_norm linalg_vector_norm std_mean var_mean nansum nanmean mode kthvalue
    aminmax frobenius_norm nuclear_norm equal allclose Float Int Bool FloatImplicit
    IntImplicit ScalarImplicit is_nonzero smooth_l1_loss huber_loss adaptive_avg_pool2d
    adaptive_max_pool2d tolist"""
)
HARD = names(
    """gt lt ge le eq ne greater less greater_equal less_equal equal not_equal isclose allclose
    isnan isinf isfinite sign sgn heaviside logical_and logical_or logical_not logical_xor
    floor round ceil trunc fix fmod remainder floor_divide floordiv bucketize searchsorted
    argmax argmin is_nonzero Bool all any __not__ __and__ __or__ __xor__ bitwise_and
    bitwise_or bitwise_xor bitwise_not __contains__ nonzero count_nonzero signbit isin
    unique hash bitwise_left_shift bitwise_right_shift __lshift__ __rshift__ digitize histc
    bincount frac Int IntImplicit topk sort argsort is_eq mod hardshrink threshold"""
)
SOFT = names(
    """sigmoid tanh relu clamp clip clamp_min clamp_max hardtanh softplus exp exp2 expm1 pow square
    hardsigmoid relu6 softmax log_softmax elu silu gelu abs sqrt rsqrt reciprocal log log2
    log1p log10 erf maximum minimum leaky_relu softshrink prelu celu selu mish hardswish sin
    cos tan atan asin acos prod amax amin max min norm linalg_norm linalg_vector_norm dist
    std var cosine_similarity pairwise_distance mse_loss l1_loss logsumexp logit atan2
    float_power ldexp cumprod fmax fmin threshold rrelu glu logsigmoid log_sigmoid
    special_expit special_xlog1py erfc sinh cosh adaptive_max_pool2d max_pool2d max_pool1d
    max_pool3d kthvalue median quantile aminmax"""
)
SWITCHES = names(
    """relu relu6 clamp clip clamp_min hardtanh hardsigmoid threshold prod sigmoid softmax"""
)
LEARNED = names(
    """conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d conv_transpose2d_
    convolution _convolution _convolution_mode linear addmm addmv addbmm baddbmm matmul mm
    bmm mv einsum embedding embedding_bag bilinear lstm gru rnn_tanh rnn_relu lstm_cell
    gru_cell rnn_tanh_cell rnn_relu_cell tensordot inner __matmul__ matrix_multiply
    chain_matmul linear_dynamic linear_relu conv2d_relu conv_transpose conv conv_tbc
    _transformer_encoder_layer_fwd _native_multi_head_attention linear_relu_dynamic
    conv2d_add conv2d_add_relu deform_conv2d miopen_convolution mkldnn_convolution
    linear_dynamic_fp16 conv1d_relu conv3d_relu"""
)
CHOOSE_FILL = names(
    """masked_fill index_fill masked_scatter index_put index_add index_copy scatter scatter_add
    scatter_reduce select_scatter slice_scatter fill copy fill_diagonal index_reduce put
    set_ zero diagonal_scatter _index_put_impl"""
)
MOVES = names(
    """select slice narrow view reshape permute unsqueeze expand expand_as contiguous detach clone
    flatten squeeze transpose t alias to type_as float double half long int bool cpu cuda
    view_as unflatten movedim swapaxes repeat tile roll flip chunk split split_with_sizes
    tensor_split unbind as_strided unfold T unchecked_cast annotate NumToTensor tensor
    as_tensor _unsafe_view reshape_as index_select take gather lift_fresh_copy lift_fresh
    data hsplit vsplit ravel expand_copy moveaxis mT _to_copy bfloat16 requires_grad_
    detach_ type implicit unsafe_chunk unsafe_split repeat_interleave
    unchecked_unwrap_optional broadcast_to squeeze_copy take_along_dim rot90 list values"""
)
VIEWS = names(
    """select slice narrow view unsqueeze squeeze transpose expand t alias detach permute unbind
    chunk"""
)
JOIN = names(
    """cat stack concat concatenate hstack vstack dstack column_stack pad one_hot outer ger
    constant_pad_nd block_diag kron diag_embed diag VarConcat VarStack meshgrid
    cartesian_prod"""
)


def bare(name: str) -> str:
    """``torch.add_`` -> ``add``; ``aten.add_.Tensor`` -> ``add``."""
    parts = name.split(".")
    for head in ("aten", "prim", "prims", "quantized", "nn.functional"):
        if head in parts[:-1]:
            parts = parts[parts.index(head) + 1 :]
            break
    else:
        parts = parts[-1:]
    word = parts[0] if parts else name
    return word[:-1] if word.endswith("_") and not word.endswith("__") else word
