"""Layers, stacks and kinds of matrices by the names that architectures give them."""

import pytest

from lnsub.tickets.parameters import KINDS, group_columns, kind_of, layer_key, layer_of, stack_of

# Name, layer, stack, kind.
NAMED = [
    ("encoder.layer.3.attention.self.query.weight", "3", "encoder", "query"),
    ("encoder.layer.3.attention.output.dense.weight", "3", "encoder", "attention output"),
    ("encoder.layer.11.output.dense.weight", "11", "encoder", "output"),
    ("pooler.dense.weight", "pooler", "encoder", "pooler"),
    ("pooler.weight", "pooler", "encoder", "pooler"),
    ("encoder.block.2.layer.1.DenseReluDense.wi_1.weight", "encoder.2", "encoder", "intermediate"),
    ("decoder.block.0.layer.1.EncDecAttention.q.weight", "decoder.0", "decoder", "query"),
    ("decoder.layers.4.encoder_attn.out_proj.weight", "decoder.4", "decoder", "attention output"),
    ("encoder.albert_layer_groups.0.albert_layers.0.attention.dense.weight", "0", "encoder", "attention output"),
    ("encoder.albert_layer_groups.0.albert_layers.0.ffn.weight", "0", "encoder", "intermediate"),
    ("encoder.albert_layer_groups.0.albert_layers.0.ffn_output.weight", "0", "encoder", "output"),
    ("initial_char_encoder.layer.0.intermediate.dense.weight", "initial.0", "initial", "intermediate"),
    ("final_char_encoder.layer.0.output.dense.weight", "final.0", "final", "output"),
    ("encoder.blocks.1.0.attention.post_proj.weight", "encoder.1.0", "encoder", "attention output"),
    ("decoder.layers.1.ffn.linear_2.weight", "decoder.1", "decoder", "output"),
    ("encoder.layer.2.ffn.1.intermediate.dense.weight", "2", "encoder", "intermediate"),
    ("encoder.layer.2.bottleneck.attention.dense.weight", "2", "encoder", "bottleneck"),
    ("encoder.layer.0.output.adapter_modules.fr_XX.dense1.weight", "0", "encoder", "adapter"),
    ("layers.7.attn.Wqkv.weight", "7", "blocks", "query-key-value"),
    ("layers.7.attn.Wo.weight", "7", "blocks", "attention output"),
    ("layers.7.mlp.Wo.weight", "7", "blocks", "output"),
    ("layers.0.mlp.gate_proj.weight", "0", "blocks", "gate"),
    ("layers.0.mlp.up_proj.weight", "0", "blocks", "up"),
    ("layers.0.mlp.down_proj.weight", "0", "blocks", "down"),
    ("layers.0.mlp.gate_up_proj.weight", "0", "blocks", "gate and up"),
    ("layers.0.self_attn.qkv_proj.weight", "0", "blocks", "query-key-value"),
    ("layers.5.mlp.experts.gate_up_proj", "5", "blocks", "expert gate and up"),
    ("layers.5.mlp.experts.down_proj", "5", "blocks", "expert down"),
    ("language_model.layers.2.self_attn.o_proj.weight", "2", "blocks", "attention output"),
    ("h.1.attn.c_attn.weight", "1", "blocks", "query-key-value"),
    ("h.1.attn.c_proj.weight", "1", "blocks", "attention output"),
    ("h.1.mlp.c_proj.weight", "1", "blocks", "output"),
    ("h.1.self_attention.dense.weight", "1", "blocks", "attention output"),
    ("layers.1.attention.dense.weight", "1", "blocks", "attention output"),
    ("h.1.mlp.dense_h_to_4h.weight", "1", "blocks", "intermediate"),
    ("h.1.mlp.dense_4h_to_h.weight", "1", "blocks", "output"),
    ("encoder.layer.0.attention.self.pos_q_proj.weight", "0", "encoder", "position"),
    ("attentions.0.out_lin.weight", "0", "encoder", "attention output"),
    ("something.weight", "other", "encoder", "other"),
]


@pytest.mark.parametrize(("name", "layer", "stack", "kind"), NAMED)
def test_a_name_says_layer_stack_and_kind(name, layer, stack, kind):
    assert (layer_of(name), stack_of(name), kind_of(name)) == (layer, stack, kind)
    assert kind in KINDS


def test_layers_are_in_the_order_that_data_flows():
    order = ["initial.0", "0", "2", "10", "encoder.11", "decoder.0", "decoder.10", "final.0", "pooler", "other"]
    assert sorted([*order[5:], *order[:5]], key=layer_key) == order
    assert sorted(["encoder.1.0", "encoder.0.10", "encoder.0.2"], key=layer_key) == [
        "encoder.0.2",
        "encoder.0.10",
        "encoder.1.0",
    ]


def test_groups_follow_that_order():
    names = [name for name, *_ in NAMED]
    kinds = [kind for (kind,) in group_columns(names, ["kind"])]
    assert kinds == [kind for kind in KINDS if kind in kinds]
