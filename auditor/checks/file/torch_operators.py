"""Operators a TorchScript model may call: torch 2.15's aten and prim that only compute.

Generated once from torch's own schema list, less those that act on the machine; in-place names
without their underscore. A later torch may add some: an unknown one is a low finding, not an
accusation.
"""

from __future__ import annotations

ATEN = frozenset(
    """
    AcceleratorError AggregationType AliasDb AnyType Argument ArgumentSpec AwaitType
    BFloat16Storage BFloat16Tensor BenchmarkConfig BenchmarkExecutionStats Block Bool
    BoolStorage BoolTensor BoolType BufferDict ByteStorage ByteTensor CallStack Capsule
    CharStorage CharTensor ClassType Code CompilationUnit CompleteArgumentSpec Complex
    ComplexDoubleStorage ComplexFloatStorage ComplexImplicit ComplexType ConcreteModuleType
    ConcreteModuleTypeBuilder DeepCopyMemoTable DeserializationStorageContext DeviceObjType
    DictType DisableTorchFunction DisableTorchFunctionSubclass DispatchKey DispatchKeySet
    DoubleStorage DoubleTensor EnumType ErrorReport Event ExcludeDispatchKeyGuard ExecutionPlan
    FatalError FileCheck Float FloatImplicit FloatStorage FloatTensor FloatType FunctionSchema
    Future FutureType Generator GradScaler Gradient Graph GraphExecutorState HalfStorage
    HalfTensor IODescriptor InferredType Int IntImplicit IntStorage IntTensor IntType
    InterfaceType JITException ListType LiteScriptModule LockingLogger LoggerBase LongStorage
    LongTensor ModuleDict Node NoneType NoopLogger NumberType OperatorInfo OptionalType
    OutOfMemoryError ParameterDict PyObjectType PyTorchFileReader PyTorchFileWriter
    QInt32Storage QInt8Storage QUInt2x4Storage QUInt4x2Storage QUInt8Storage RRefType
    ScalarImplicit ScriptClass ScriptClassFunction ScriptDict ScriptDictIterator
    ScriptDictKeyIterator ScriptFunction ScriptList ScriptListIterator ScriptMethod ScriptModule
    ScriptModuleSerializer ScriptObject ScriptObjectProperty SerializationStorageContext
    ShortStorage ShortTensor Size StaticModule Storage StorageBase Stream StreamObjType
    StringType SymBool SymBoolType SymFloat SymInt SymIntType Tag Tensor TensorType
    ThroughputBenchmark TracingState TupleType Type TypedStorage UnionType UntypedStorage Use
    Value _Any _Callable _LiteralString _ModuleType _Never _ParamSpec _Self _Sequence
    _SymTypingMagic _SymTypingMagicAlsoBool _SymTypingMagicBitwise _TypeAlias _TypeGuard _TypeIs
    _TypeVar __all_and_float_types __and__ __contains__ __derive_index __getitem__ __iand__
    __ilshift__ __interpolate __ior__ __irshift__ __is__ __isnot__ __ixor__ __lshift__ __not__
    __or__ __range_length __round_to_zero_floordiv __rshift__ __upsample __upsample_bilinear
    __upsample_nearest __xor__ _adaptive_avg_pool2d _adaptive_avg_pool2d_backward
    _adaptive_avg_pool3d _adaptive_avg_pool3d_backward _add_batch_dim _add_relu
    _addmm_activation _aminmax _amp_foreach_non_finite_check_and_unscale _amp_update_scale
    _assert _assert_async _assert_int_or_pair _assert_scalar _assert_tensor_metadata
    _autocast_to_full_precision _autocast_to_reduced_precision _backward _batch_norm_impl_index
    _batch_norm_impl_index_backward _batch_norm_no_update _batch_norm_with_update
    _batch_norm_with_update_functional _cast_Byte _cast_Char _cast_Double _cast_Float _cast_Half
    _cast_Int _cast_Long _cast_Short _cdist_backward _cdist_forward _check _check_index
    _check_is_size _check_not_implemented _check_tensor_all _check_tensor_all_with _check_type
    _check_value _check_with _cholesky_solve_helper _choose_qparams_per_tensor _chunk_cat
    _coalesce _coalesced _compute_linear_combination _conj _conj_copy _conj_physical
    _conv_depthwise2d _convert_indices_from_coo_to_csr _convert_indices_from_csr_to_coo
    _convert_weight_to_int4pack _convert_weight_to_int4pack_for_cpu _convolution
    _convolution_double_backward _convolution_mode _copy_from _copy_from_and_resize
    _cslt_compress _cslt_sparse_mm _cslt_sparse_mm_search _ctc_loss _ctc_loss_backward
    _cudnn_attention_backward _cudnn_attention_forward
    _cudnn_attention_forward_no_dropout_inplace _cudnn_ctc_loss _cudnn_init_dropout_state
    _cudnn_rnn _cudnn_rnn_backward _cudnn_rnn_flatten_weight _cufft_get_plan_cache_max_size
    _cufft_get_plan_cache_size _cummax_helper _cummin_helper _debug_has_internal_overlap
    _deprecated _dimI _dimV _dim_arange _dirichlet_grad _disable_dynamo
    _disable_functionalization _dyn_quant_matmul_4bit _dyn_quant_pack_4bit_weight
    _efficient_attention_backward _efficient_attention_forward _efficientzerotensor
    _embedding_bag _embedding_bag_backward _embedding_bag_dense_backward
    _embedding_bag_forward_only _embedding_bag_per_sample_weights_backward
    _embedding_bag_sparse_backward _empty_affine_quantized _empty_per_channel_affine_quantized
    _enable_functionalization _euclidean_dist _fake_quantize_learnable_per_channel_affine
    _fake_quantize_learnable_per_channel_affine_backward
    _fake_quantize_learnable_per_tensor_affine
    _fake_quantize_learnable_per_tensor_affine_backward
    _fake_quantize_per_tensor_affine_cachemask_tensor_qparams _fft_c2c _fft_c2r _fft_r2c
    _fill_mem_eff_dropout_mask _flash_attention_backward _flash_attention_forward
    _flash_attention_forward_no_dropout_inplace _foobar _foreach_abs _foreach_acos _foreach_add
    _foreach_addcdiv _foreach_addcmul _foreach_asin _foreach_atan _foreach_ceil
    _foreach_clamp_max _foreach_clamp_min _foreach_clone _foreach_copy _foreach_cos
    _foreach_cosh _foreach_div _foreach_erf _foreach_erfc _foreach_exp _foreach_expm1
    _foreach_floor _foreach_frac _foreach_lerp _foreach_lgamma _foreach_log _foreach_log10
    _foreach_log1p _foreach_log2 _foreach_max _foreach_maximum _foreach_minimum _foreach_mm
    _foreach_mul _foreach_neg _foreach_norm _foreach_pow _foreach_powsum _foreach_reciprocal
    _foreach_round _foreach_rsqrt _foreach_sigmoid _foreach_sign _foreach_sin _foreach_sinh
    _foreach_sqrt _foreach_sub _foreach_tan _foreach_tanh _foreach_trunc _foreach_zero
    _freeze_functional_tensor _from_blob _from_functional_tensor _functional_assert_async
    _functional_assert_scalar _functional_sym_constrain_range
    _functional_sym_constrain_range_for_size
    _functionalize_are_all_mutations_hidden_from_autograd
    _functionalize_are_all_mutations_under_no_grad_or_inference_mode
    _functionalize_commit_update _functionalize_enable_reapply_views
    _functionalize_get_storage_size _functionalize_has_data_mutation
    _functionalize_has_metadata_mutation _functionalize_inductor_storage_resized_counter
    _functionalize_is_multi_output_view _functionalize_is_symbolic
    _functionalize_mark_mutation_hidden_from_autograd _functionalize_mark_storage_changed
    _functionalize_mutation_counter _functionalize_replace
    _functionalize_storage_changed_counter _functionalize_sync _functionalize_unsafe_set
    _functionalize_was_inductor_storage_resized _functionalize_was_shallow_copy_data
    _functionalize_was_storage_changed _fused_adagrad _fused_adam _fused_adamw _fused_dropout
    _fused_moving_avg_obs_fq_helper _fused_moving_avg_obs_fq_helper_functional _fused_rms_norm
    _fused_rms_norm_backward _fused_sdp_choice _fused_sgd _fw_primal _fw_primal_copy
    _gather_sparse_backward _get_cpu_capability _get_cuda_dep_paths _get_origin
    _get_tracing_state _grad_sum_to_size _grid_sampler_2d_cpu_fallback
    _grid_sampler_2d_cpu_fallback_backward _grouped_mm _has_compatible_shallow_copy_type
    _has_same_storage_numel _histogramdd_bin_edges _histogramdd_from_bin_cts
    _histogramdd_from_bin_tensors _import_dotted_name _index_put_impl _indices _indices_copy
    _infer_size _initExtension _int_mm _is_all_true _is_any_true _is_functional_tensor
    _is_functional_tensor_base _is_tracing _is_zerotensor _jagged_to_padded_dense_forward
    _lazy_clone _linalg_check_errors _linalg_det _linalg_eigh _linalg_eigvals _linalg_slogdet
    _linalg_solve_ex _linalg_svd _list_to_tensor _load_global_deps _local_scalar_dense
    _log_softmax _log_softmax_backward_data _logcumsumexp _lstm_mps _lu_with_info
    _make_dep_token _make_dual _make_dual_copy _make_per_channel_quantized_tensor
    _make_per_tensor_quantized_tensor _masked_scale _masked_softmax _masked_softmax_backward
    _mirror_autograd_meta_to _mixed_dtypes_linear _mkldnn_reshape _mkldnn_transpose
    _mps_convolution _mps_convolution_transpose _native_batch_norm_legit
    _native_batch_norm_legit_functional _native_batch_norm_legit_no_training
    _native_multi_head_attention _ncf_unsqueeze _ncf_view _neg_view _neg_view_copy
    _nested_compute_contiguous_strides_offsets _nested_from_padded
    _nested_from_padded_and_nested_example _nested_from_padded_tensor _nested_get_jagged_dummy
    _nested_get_lengths _nested_get_max_seqlen _nested_get_min_seqlen _nested_get_offsets
    _nested_get_ragged_idx _nested_get_values _nested_get_values_copy _nested_select_backward
    _nested_sum_backward _nested_tensor_from_mask _nested_tensor_from_mask_left_aligned
    _nested_tensor_from_tensor_list _nested_tensor_size _nested_tensor_softmax_with_shape
    _nested_tensor_storage_offsets _nested_tensor_strides _nested_view_from_buffer
    _nested_view_from_buffer_copy _nested_view_from_jagged _nested_view_from_jagged_copy
    _new_zeros_with_same_feature_meta _nnpack_available _nnpack_spatial_convolution _nnz
    _no_grad_embedding_renorm _no_grad_fill _no_grad_normal _no_grad_uniform _no_grad_zero
    _overload _pack_padded_sequence _pack_padded_sequence_backward _pack_sequence _pad_circular
    _pad_enum _pad_packed_sequence _padded_dense_to_jagged_forward _pair _parse_to
    _pdist_backward _pdist_forward _philox_key_fold_in _philox_key_split _philox_normal
    _philox_randint _philox_uniform _pin_memory _preload_cuda_deps _preload_cuda_lib
    _prelu_kernel _prelu_kernel_backward _propagate_xla_data _quadruple _remove_batch_dim
    _reshape_alias _reshape_alias_copy _reshape_copy _reshape_from_tensor _resize_output
    _rowwise_prune _running_with_deploy _safe_softmax _sample_dirichlet _saturate_weight_to_fp16
    _scaled_addmm _scaled_dot_product_attention_math _scaled_dot_product_attention_math_for_mps
    _scaled_dot_product_cudnn_attention _scaled_dot_product_cudnn_attention_backward
    _scaled_dot_product_efficient_attention _scaled_dot_product_efficient_attention_backward
    _scaled_dot_product_flash_attention _scaled_dot_product_flash_attention_backward
    _scaled_dot_product_flash_attention_for_cpu
    _scaled_dot_product_flash_attention_for_cpu_backward
    _scaled_dot_product_fused_attention_overrideable
    _scaled_dot_product_fused_attention_overrideable_backward _scaled_grouped_mm
    _scaled_grouped_mm_v2 _scaled_mm _scaled_mm_v2 _segment_reduce_backward _set_item
    _shape_as_tensor _single _size_if_not_equal _slow_conv2d_backward _slow_conv2d_forward
    _sobol_engine_draw _sobol_engine_ff _sobol_engine_initialize_state _sobol_engine_scramble
    _softmax _softmax_backward_data _sparse_addmm _sparse_broadcast_to _sparse_broadcast_to_copy
    _sparse_bsc_tensor_unsafe _sparse_bsr_tensor_unsafe _sparse_compressed_tensor_unsafe
    _sparse_compressed_tensor_with_dims _sparse_coo_tensor_unsafe _sparse_coo_tensor_with_dims
    _sparse_coo_tensor_with_dims_and_tensors _sparse_csc_tensor_unsafe _sparse_csr_prod
    _sparse_csr_sum _sparse_csr_tensor_unsafe _sparse_log_softmax
    _sparse_log_softmax_backward_data _sparse_mask_projection _sparse_mm _sparse_mm_reduce_impl
    _sparse_mm_reduce_impl_backward _sparse_semi_structured_addmm _sparse_semi_structured_apply
    _sparse_semi_structured_apply_dense _sparse_semi_structured_linear
    _sparse_semi_structured_mm _sparse_semi_structured_tile _sparse_softmax
    _sparse_softmax_backward_data _sparse_sparse_matmul _sparse_sum _sparse_sum_backward
    _spdiags _spsolve _stack _standard_gamma _standard_gamma_grad _sym_acos _sym_asin _sym_atan
    _sym_cos _sym_cosh _sym_log2 _sym_sin _sym_sinh _sym_sqrt _sym_tan _sym_tanh _sync
    _tensor_to_list _thnn_differentiable_gru_cell_backward
    _thnn_differentiable_lstm_cell_backward _thnn_fused_gru_cell _thnn_fused_gru_cell_backward
    _thnn_fused_lstm_cell _thnn_fused_lstm_cell_backward _thnn_fused_lstm_cell_backward_impl
    _to_copy _to_cpu _to_dense _to_functional_tensor _to_sparse _to_sparse_bsc _to_sparse_bsr
    _to_sparse_csc _to_sparse_csr _to_sparse_semi_structured _transform_bias_rescale_qkv
    _transformer_encoder_layer_fwd _trilinear _triple _triton_multi_head_attention
    _triton_scaled_dot_attention _unique _unique2 _unpack_dual _unsafe_index _unsafe_index_put
    _unsafe_masked_index _unsafe_masked_index_put_accumulate _unsafe_view _unwrap_optional
    _upsample_bicubic2d_aa _upsample_bicubic2d_aa_backward _upsample_bilinear2d_aa
    _upsample_bilinear2d_aa_backward _upsample_lanczos2d_aa _upsample_lanczos2d_aa_backward
    _upsample_nearest_exact1d _upsample_nearest_exact1d_backward _upsample_nearest_exact2d
    _upsample_nearest_exact2d_backward _upsample_nearest_exact3d
    _upsample_nearest_exact3d_backward _use_cudnn_ctc_loss _use_cudnn_rnn_flatten_weight
    _use_miopen_ctc_loss _validate_compressed_sparse_indices _validate_sparse_bsc_tensor_args
    _validate_sparse_bsr_tensor_args _validate_sparse_compressed_tensor_args
    _validate_sparse_coo_tensor_args _validate_sparse_csc_tensor_args
    _validate_sparse_csr_tensor_args _values _values_copy _version _warn_typed_storage_removal
    _weight_int4pack_mm _weight_int4pack_mm_for_cpu _weight_int4pack_mm_with_scales_and_zeros
    _weight_int8pack_mm _weight_norm _weight_norm_differentiable_backward _weight_norm_interface
    _weight_norm_interface_backward _wrapped_linear_prepack _wrapped_quantized_linear_prepacked
    abs absolute acos acosh adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d
    adaptive_avg_pool3d_backward adaptive_max_pool1d adaptive_max_pool2d
    adaptive_max_pool2d_backward adaptive_max_pool3d adaptive_max_pool3d_backward add addbmm
    addcdiv addcmul addmm addmv addr adjoint affine_grid_generator
    affine_grid_generator_backward alias alias_copy all allclose alpha_dropout amax amin aminmax
    angle any append arange arccos arccosh arcsin arcsinh arctan arctan2 arctanh
    are_deterministic_algorithms_enabled argmax argmin argsort argwhere as_strided
    as_strided_copy as_strided_scatter as_tensor asarray asin asinh atan atan2 atanh atleast_1d
    atleast_2d atleast_3d autocast_decrement_nesting autocast_increment_nesting avg_pool1d
    avg_pool2d avg_pool2d_backward avg_pool3d avg_pool3d_backward backward baddbmm
    bartlett_window batch_norm batch_norm_backward batch_norm_backward_elemt
    batch_norm_backward_reduce batch_norm_elemt batch_norm_gather_stats
    batch_norm_gather_stats_with_counts batch_norm_stats batch_norm_update_stats bernoulli
    bilinear bin binary_cross_entropy binary_cross_entropy_backward
    binary_cross_entropy_with_logits bincount binomial bitwise_and bitwise_left_shift
    bitwise_not bitwise_or bitwise_right_shift bitwise_xor blackman_window block_diag bmm
    broadcast_shapes broadcast_tensors broadcast_to bucketize can_cast capitalize cartesian_prod
    cat cauchy ccol_indices ccol_indices_copy cdist ceil celu center chain_matmul chalf
    channel_shuffle cholesky_inverse cholesky_solve choose_qparams_optimized chr chunk clamp
    clamp_max clamp_min classproperty clear clear_autocast_cache clip clone coalesce col2im
    col_indices col_indices_copy column_stack combinations complex concat concatenate
    confirmed_by_owner conj conj_physical constant_pad_nd contiguous conv1d conv2d conv3d
    conv_depthwise3d conv_tbc conv_tbc_backward conv_transpose1d conv_transpose2d
    conv_transpose3d convolution convolution_backward convolution_backward_overrideable
    convolution_overrideable copy copy_sparse_to_sparse copysign corrcoef cos cosh
    cosine_embedding_loss cosine_similarity count count_nonzero cov cpu cross cross_entropy_loss
    crow_indices crow_indices_copy ctc_loss cuda cudnn_affine_grid_generator
    cudnn_affine_grid_generator_backward cudnn_batch_norm cudnn_batch_norm_backward
    cudnn_convolution cudnn_convolution_add_relu cudnn_convolution_relu
    cudnn_convolution_transpose cudnn_grid_sampler cudnn_grid_sampler_backward
    cudnn_is_acceptable cummax cummaxmin_backward cummin cumprod cumprod_backward cumsum
    cumulative_trapezoid data deg2rad degrees dense_dim dequantize det detach detach_copy device
    diag diag_embed diagflat diagonal diagonal_backward diagonal_copy diagonal_scatter dict diff
    digamma dim dist dist_backward div divide divmod dot dropout dsmm dsplit dstack dtype einsum
    element_size elu elu_backward embedding embedding_backward embedding_bag
    embedding_dense_backward embedding_renorm embedding_sparse_backward empty empty_like
    empty_permuted empty_quantized empty_strided enable_grad endswith eq equal erf erfc erfinv
    exp exp2 expand expand_as expand_copy expandtabs expm1 exponential extend eye fabs factorial
    fake_quantize_per_channel_affine fake_quantize_per_channel_affine_cachemask
    fake_quantize_per_channel_affine_cachemask_backward fake_quantize_per_tensor_affine
    fake_quantize_per_tensor_affine_cachemask fake_quantize_per_tensor_affine_cachemask_backward
    fbgemm_linear_fp16_weight fbgemm_linear_fp16_weight_fp32_activation
    fbgemm_linear_int8_weight fbgemm_linear_int8_weight_fp32_activation
    fbgemm_linear_quantize_weight fbgemm_pack_gemm_matrix_fp16 fbgemm_pack_quantized_matrix
    feature_alpha_dropout feature_dropout fft_fft fft_fft2 fft_fftfreq fft_fftn fft_fftshift
    fft_hfft fft_hfft2 fft_hfftn fft_ifft fft_ifft2 fft_ifftn fft_ifftshift fft_ihfft fft_ihfft2
    fft_ihfftn fft_irfft fft_irfft2 fft_irfftn fft_rfft fft_rfft2 fft_rfftfreq fft_rfftn fill
    fill_diagonal find finfo fix flatten flatten_dense_tensors flip fliplr flipud float_power
    floor floor_divide floordiv fmax fmin fmod fork format frac fractional_max_pool2d
    fractional_max_pool2d_backward fractional_max_pool3d fractional_max_pool3d_backward frexp
    frobenius_norm from_numpy frombuffer full full_like fused_moving_avg_obs_fake_quant gamma
    gather gather_backward gcd ge gelu gelu_backward geometric geqrf ger get
    get_autocast_cpu_dtype get_autocast_dtype get_autocast_gpu_dtype get_autocast_ipu_dtype
    get_autocast_xla_dtype get_default_device get_default_dtype get_deterministic_debug_mode
    get_device get_file_path get_float32_matmul_precision get_gradients get_num_interop_threads
    get_num_threads get_rng_state glu glu_backward glu_backward_jvp glu_jvp grad gradient
    greater greater_equal grid_sampler grid_sampler_2d grid_sampler_2d_backward grid_sampler_3d
    grid_sampler_3d_backward group_norm gru gru_cell gt hamming_window hann_window hardshrink
    hardshrink_backward hardsigmoid hardsigmoid_backward hardswish hardswish_backward hardtanh
    hardtanh_backward has_torch_function hash_tensor heaviside hex hinge_embedding_loss histc
    histogram histogramdd hsmm hsplit hspmm hstack huber_loss huber_loss_backward hypot i0
    igamma igammac iinfo im2col imag import_ir_module import_ir_module_from_buffer index
    index_add index_copy index_fill index_put index_reduce index_select index_select_backward
    indices indices_copy inference_mode infinitely_differentiable_gelu_backward init_num_threads
    initial_seed inner insert instance_norm int_repr inverse is_anomaly_check_nan_enabled
    is_anomaly_enabled is_autocast_cache_enabled is_autocast_cpu_enabled is_autocast_enabled
    is_autocast_ipu_enabled is_autocast_xla_enabled is_coalesced is_complex is_conj
    is_contiguous is_deterministic_algorithms_warn_only_enabled is_distributed is_floating_point
    is_grad_enabled is_inference is_inference_mode_enabled is_leaf is_neg
    is_non_overlapping_and_dense is_nonzero is_owner is_pinned is_same_size is_scripting
    is_set_to is_signed is_storage is_strides_like_format is_tensor is_vulkan_available
    is_warn_always_enabled isalnum isalpha isclose isdecimal isdigit isfinite isidentifier isin
    isinf islower isnan isneginf isnumeric isposinf isprintable isreal isspace istft istitle
    isupper item items join kaiser_window keys kl_div kron kthvalue l1_loss layer_norm layout
    lcm ldexp le leaky_relu leaky_relu_backward len lerp less less_equal lgamma lift lift_fresh
    lift_fresh_copy linalg__powsum linalg_cholesky linalg_cholesky_ex linalg_cond linalg_cross
    linalg_det linalg_diagonal linalg_eig linalg_eigh linalg_eigvals linalg_eigvalsh
    linalg_householder_product linalg_inv linalg_inv_ex linalg_ldl_factor linalg_ldl_factor_ex
    linalg_ldl_solve linalg_lstsq linalg_lu linalg_lu_factor linalg_lu_factor_ex linalg_lu_solve
    linalg_matmul linalg_matrix_exp linalg_matrix_norm linalg_matrix_power linalg_matrix_rank
    linalg_matrix_sqrth linalg_multi_dot linalg_norm linalg_pinv linalg_polar linalg_qr
    linalg_slogdet linalg_solve linalg_solve_ex linalg_solve_triangular linalg_svd
    linalg_svdvals linalg_tensorinv linalg_tensorsolve linalg_vander linalg_vecdot
    linalg_vector_norm linear linear_backward linspace list list_with_default ljust load
    local_value log log10 log1p log2 log_normal log_sigmoid log_sigmoid_backward
    log_sigmoid_forward log_softmax logaddexp logaddexp2 logcumsumexp logdet logical_and
    logical_not logical_or logical_xor logit logit_backward logspace logsumexp lower lstm
    lstm_cell lstm_mps_backward lstrip lt lu_solve lu_unpack mH mT margin_ranking_loss
    masked_fill masked_scatter masked_scatter_backward masked_select masked_select_backward
    mathremainder matmul matmul_backward matrix_H matrix_exp matrix_exp_backward matrix_power
    max max_pool1d max_pool1d_with_indices max_pool2d max_pool2d_backward
    max_pool2d_with_indices max_pool2d_with_indices_backward max_pool3d max_pool3d_with_indices
    max_pool3d_with_indices_backward max_unpool2d max_unpool3d maximum mean median memory_format
    merge_type_from_type_comment meshgrid min minimum miopen_batch_norm
    miopen_batch_norm_backward miopen_convolution miopen_convolution_add_relu
    miopen_convolution_relu miopen_convolution_transpose miopen_ctc_loss
    miopen_depthwise_convolution miopen_rnn miopen_rnn_backward mish mish_backward
    mkldnn_adaptive_avg_pool2d mkldnn_adaptive_avg_pool2d_backward mkldnn_convolution
    mkldnn_linear mkldnn_linear_backward mkldnn_linear_backward_input
    mkldnn_linear_backward_weights mkldnn_max_pool2d mkldnn_max_pool2d_backward
    mkldnn_max_pool3d mkldnn_max_pool3d_backward mkldnn_reorder_conv2d_weight
    mkldnn_reorder_conv3d_weight mkldnn_rnn_layer mkldnn_rnn_layer_backward mm mode modf
    moveaxis movedim mps_convolution_backward mps_convolution_transpose_backward mse_loss
    mse_loss_backward msort mul multi_margin_loss multi_margin_loss_backward
    multilabel_margin_loss multilabel_margin_loss_backward multilabel_margin_loss_forward
    multinomial multiply mv mvlgamma nan_to_num nanmean nanmedian nanquantile nansum narrow
    narrow_copy native_batch_norm native_batch_norm_backward native_channel_shuffle
    native_dropout native_dropout_backward native_group_norm native_group_norm_backward
    native_layer_norm native_layer_norm_backward native_norm ne neg negative nested_tensor
    nested_to_padded_tensor new_empty new_empty_strided new_full new_ones new_zeros nextafter
    nll_loss nll_loss2d nll_loss2d_backward nll_loss2d_forward nll_loss_backward
    nll_loss_forward nll_loss_nd nonzero nonzero_numpy nonzero_static norm norm_except_dim
    normal normal_functional not_equal nuclear_norm numel numpy_T oct one_hot ones ones_like ord
    orgqr ormqr outer output_nr owner owner_name pad pad_sequence pairwise_distance parse_ir
    parse_schema parse_type_comment partition pca_lowrank pdist percentFormat permute
    permute_copy pin_memory pinverse pixel_shuffle pixel_unshuffle poisson poisson_nll_loss
    polar polygamma pop popitem positive pow prelu prepare_multiprocessing_environment prod
    profiler_allow_cudagraph_cupti_lazy_reinit_cuda12 promote_types put q_per_channel_axis
    q_per_channel_scales q_per_channel_zero_points q_scale q_zero_point qscheme quantile
    quantize_per_channel quantize_per_tensor quantize_per_tensor_dynamic quantized_batch_norm
    quantized_gru quantized_gru_cell quantized_lstm quantized_lstm_cell quantized_max_pool1d
    quantized_max_pool2d quantized_max_pool3d quantized_rnn_relu_cell quantized_rnn_tanh_cell
    rad2deg radians rand rand_like randint randint_like randn randn_like random randperm range
    ravel real reciprocal record_stream reflection_pad1d reflection_pad1d_backward
    reflection_pad2d reflection_pad2d_backward reflection_pad3d reflection_pad3d_backward relu
    relu6 remainder remove renorm repeat repeat_interleave replace replication_pad1d
    replication_pad1d_backward replication_pad2d replication_pad2d_backward replication_pad3d
    replication_pad3d_backward requires_grad reshape reshape_as resize resize_as
    resize_as_sparse resolve_conj resolve_neg result_type retain_grad retains_grad reverse rfind
    rindex rjust rms_norm rnn_relu rnn_relu_cell rnn_tanh rnn_tanh_cell roll rot90 round
    row_indices row_indices_copy row_stack rpartition rrelu rrelu_with_noise
    rrelu_with_noise_backward rrelu_with_noise_functional rsplit rsqrt rstrip rsub saddmm
    scalar_tensor scaled_dot_product_attention scatter scatter_add scatter_reduce searchsorted
    segment_reduce select select_backward select_copy select_scatter selu set
    set_anomaly_enabled set_autocast_cache_enabled set_autocast_cpu_dtype
    set_autocast_cpu_enabled set_autocast_dtype set_autocast_enabled set_autocast_gpu_dtype
    set_autocast_ipu_dtype set_autocast_ipu_enabled set_autocast_xla_dtype
    set_autocast_xla_enabled set_default_device set_default_dtype set_default_tensor_type
    set_deterministic_debug_mode set_float32_matmul_precision set_flush_denormal
    set_num_interop_threads set_printoptions set_rng_state set_warn_always setdefault sgn
    shallow_copy_data sigmoid sigmoid_backward sign signbit silu silu_backward sin sinc sinh
    size slice slice_backward slice_copy slice_inverse slice_scatter slogdet slow_conv3d
    slow_conv3d_forward slow_conv_dilated2d slow_conv_dilated3d slow_conv_transpose2d
    slow_conv_transpose3d smm smooth_l1_loss smooth_l1_loss_backward soft_margin_loss
    soft_margin_loss_backward softmax softplus softplus_backward softshrink softshrink_backward
    sort sorted sparse_bsc_tensor sparse_bsr_tensor sparse_compressed_tensor sparse_coo_tensor
    sparse_csc_tensor sparse_csr_tensor sparse_dim sparse_mask sparse_resize
    sparse_resize_and_clear sparse_sampled_addmm special_airy_ai special_bessel_j0
    special_bessel_j1 special_bessel_y0 special_bessel_y1 special_chebyshev_polynomial_t
    special_chebyshev_polynomial_u special_chebyshev_polynomial_v special_chebyshev_polynomial_w
    special_digamma special_entr special_erf special_erfc special_erfcx special_erfinv
    special_exp2 special_expit special_expm1 special_gammainc special_gammaincc special_gammaln
    special_hermite_polynomial_h special_hermite_polynomial_he special_i0 special_i0e special_i1
    special_i1e special_laguerre_polynomial_l special_legendre_polynomial_p special_log1p
    special_log_ndtr special_log_softmax special_logit special_logsumexp
    special_modified_bessel_i0 special_modified_bessel_i1 special_modified_bessel_k0
    special_modified_bessel_k1 special_multigammaln special_ndtr special_ndtri special_polygamma
    special_psi special_round special_scaled_modified_bessel_k0
    special_scaled_modified_bessel_k1 special_shifted_chebyshev_polynomial_t
    special_shifted_chebyshev_polynomial_u special_shifted_chebyshev_polynomial_v
    special_shifted_chebyshev_polynomial_w special_sinc special_softmax
    special_spherical_bessel_j0 special_xlog1py special_xlogy special_zeta split split_copy
    split_with_sizes split_with_sizes_copy splitlines spmm sqrt square squeeze squeeze_copy
    sspaddmm stack startswith std std_mean stft storage_offset str stride strip sub subtract sum
    sum_to_size svd svd_lowrank swapaxes swapcase swapdims sym_constrain_range
    sym_constrain_range_for_size sym_float sym_fresh_size sym_int sym_is_contiguous sym_ite
    sym_max sym_min sym_not sym_numel sym_size sym_sqrt sym_storage_offset sym_stride sym_sum t
    t_copy take take_along_dim tan tanh tanh_backward tensor tensor_split tensordot thnn_conv2d
    thread_safe_generator threshold threshold_backward tile title to to_dense to_dense_backward
    to_here to_mkldnn to_mkldnn_backward to_padded_tensor to_sparse to_sparse_bsc to_sparse_bsr
    to_sparse_csc to_sparse_csr topk trace trace_backward transpose transpose_copy trapezoid
    trapz triangular_solve tril tril_indices triplet_margin_loss triu triu_indices true_divide
    trunc type_as typename unbind unbind_copy unflatten unflatten_dense_tensors unfold
    unfold_backward unfold_copy uniform unify_type_list unique_consecutive unique_dim
    unique_dim_consecutive unravel_index unsafe_chunk unsafe_split unsafe_split_with_sizes
    unsqueeze unsqueeze_copy update upper upsample_bicubic2d upsample_bicubic2d_backward
    upsample_bilinear2d upsample_bilinear2d_backward upsample_linear1d
    upsample_linear1d_backward upsample_nearest1d upsample_nearest1d_backward upsample_nearest2d
    upsample_nearest2d_backward upsample_nearest3d upsample_nearest3d_backward
    upsample_trilinear3d upsample_trilinear3d_backward use_deterministic_algorithms
    value_selecting_reduction_backward values values_copy vander var var_mean vdot view view_as
    view_as_complex view_as_complex_copy view_as_real view_as_real_copy view_copy vsplit vstack
    wait warn where xlogy zero zeros zeros_like zfill
    set_grad_enabled
    """.split()  # noqa: SIM905 - one name a line would hide the table
)
PRIM = frozenset(
    """
    AddStatValue AutogradAdd AutogradAllNonZero AutogradAllZero AutogradAnyNonZero AutogradZero
    BailOut BailoutTemplate BroadcastMKLDNNTensors BroadcastSizes ChunkSizes ConstantChunk
    ConstantMKLDNNTensor DifferentiableGraph EnumName EnumValue FallbackGraph FusedConcat
    FusionGroup Guard IfThenElse MKLDNNClamp MKLDNNClamp_ MKLDNNHardSigmoid MKLDNNHardSigmoid_
    MKLDNNHardSwish MKLDNNHardSwish_ MKLDNNHardTanh MKLDNNHardTanh_ MKLDNNLayerNorm
    MKLDNNLayerNorm_ MKLDNNScalarMul MKLDNNScalarMul_ MMBatchSide MMTreeReduce
    ModuleContainerIndex NumToTensor Print RaiseException ReductionSizes RequiresGradCheck
    StaticRuntimeCopyOuts StaticSubgraph StringIndex TensorExprDynamicGroup
    TensorExprDynamicGuard TensorExprGroup TimePoint TupleIndex TupleUnpack TypeCheck
    Uninitialized VarConcat VarStack abs awaitable_nowait awaitable_wait data device dtype grad
    id index is_cpu is_cuda is_ipu is_maia is_meta is_mkldnn is_mps is_mtia is_nested
    is_quantized is_sparse is_sparse_csr is_vulkan is_xla is_xpu itemsize layout max min
    mkldnn_convolution name nbytes oneDNNFusionGroup oneDNNFusionGuard profile profile_ivalue
    rangelist requires_grad tolist type unchecked_cast unchecked_unwrap_optional
    """.split()  # noqa: SIM905 - one name a line would hide the table
)
