"""Each private name of torch is there and does what lnsub takes it for."""

import pytest
import torch
from torch import nn
from torch.fx.experimental import _config
from torch.nn.attention.varlen import varlen_attn

from lnsub.common.torch_internals import (
    copy_all,
    cpp_compilers,
    disable_duck_shapes,
    exclude_from_ddp_broadcasts,
    flash_attention,
    has_triton,
    largest,
)


def test_lists_of_tensors_are_copied():
    sources = [torch.rand(3, 2), torch.tensor([True, False])]
    targets = [torch.zeros(3, 2), torch.zeros(2, dtype=torch.bool)]
    copy_all(targets, sources)
    assert all(torch.equal(target, source) for target, source in zip(targets, sources, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_largest_absolute_values_show_what_is_not_finite(dtype):
    tensors = [torch.tensor(values, dtype=dtype) for values in ([[1.0, -3.0]], [2.0, -torch.inf], [torch.nan, 9.0])]
    one, infinite, nan = largest(tensors)
    assert float(one) == 3.0
    assert torch.isposinf(infinite)
    assert torch.isnan(nan)


def test_ddp_reads_the_names_that_it_is_to_leave_alone():
    module = nn.BatchNorm1d(2)
    exclude_from_ddp_broadcasts(module, ["running_mean", "running_var"])
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(module)
        assert wrapped.parameters_to_ignore == {"running_mean", "running_var"}
        assert list(wrapped.named_module_buffers) == ["num_batches_tracked"]
    finally:
        torch.distributed.destroy_process_group()


def test_equal_sizes_stay_two_sizes():
    with _config.patch(use_duck_shape=True):
        disable_duck_shapes()
        assert _config.use_duck_shape is False


def test_the_compilers_of_torch_are_told():
    assert isinstance(has_triton(), bool)
    assert all(isinstance(name, str) for name in cpp_compilers())
    with torch._inductor.config.patch({"cpp.cxx": (None, "mine")}):
        assert cpp_compilers() == ["mine"]


def test_the_operation_behind_packed_attention_takes_these_arguments():
    schema = torch.ops.aten._flash_attention_forward.default._schema
    names = [argument.name for argument in schema.arguments]
    assert names[:10] == ["query", "key", "value", "cum_seq_q", "cum_seq_k", "max_q", "max_k", "dropout_p", "is_causal",
                          "return_debug_mask"]  # fmt: skip
    assert "scale" in names


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_flash_attention_is_torchs_own_where_nothing_is_dropped():
    q, k, v = torch.randn(3, 24, 2, 32, device="cuda", dtype=torch.bfloat16)
    starts = torch.tensor([0, 10, 24], dtype=torch.int32, device="cuda")
    expected = varlen_attn(q, k, v, starts, starts, 14, 14)
    assert torch.equal(flash_attention(q, k, v, starts, 14, 0.0, None), expected)
    assert not torch.equal(flash_attention(q, k, v, starts, 14, 0.5, None), expected)
