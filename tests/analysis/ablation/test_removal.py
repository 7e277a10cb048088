import numpy as np
import pytest
import torch
from transformers import BertForMaskedLM, GPT2Config, GPT2Model, MixtralConfig, MixtralModel

from lnsub.analysis.ablation.filling import InputMeans, filled
from lnsub.analysis.ablation.removal import Removal, reference_for, removal_of, source_of
from lnsub.common.errors import UserError
from lnsub.models.subnet import Subnet
from lnsub.models.unit_maps import units_of
from lnsub.tickets.combining import combine
from lnsub.tickets.ticket import Ticket
from tests.support.models import bert_config
from tests.support.ticket_factory import SHAPES, kept_set, random_masks, random_ticket, ticket


def model(seed: int = 0) -> BertForMaskedLM:
    torch.manual_seed(seed)
    return BertForMaskedLM(bert_config()).eval()


def taken(removal: Removal) -> set[tuple[str, int]]:
    return kept_set({name: bits.numpy() for name, bits in removal.weights().items()})


def neurons(keep: dict[str, list[int]], **changes: object) -> Ticket:
    units = units_of(model(), "neuron")
    assert units is not None
    kept = {name: np.isin(np.arange(count), keep.get(name, [])) for name, (count,) in units.shapes.items()}
    named = {"granularity": "neuron", "units": units.to_json(), **changes}
    return ticket(units.expanded(kept, Subnet(model()).shapes), **named)


def test_what_is_taken_away_is_kept_pruned_or_the_departure():
    mine, other = random_masks(0.3, 1), random_masks(0.3, 2)
    every = kept_set({name: np.ones(shape, bool) for name, shape in SHAPES.items()})
    a, b = ticket(mine), ticket(other)
    assert taken(removal_of(a, "kept", SHAPES)) == kept_set(mine)
    assert taken(removal_of(a, "pruned", SHAPES)) == every - kept_set(mine)
    assert taken(removal_of(a, "departure", SHAPES, b)) == kept_set(mine) - kept_set(other)
    assert removal_of(a, "departure", SHAPES, b).count == len(kept_set(mine) - kept_set(other))


def test_parameters_that_only_one_has_are_left_alone():
    shapes = {name: shape for name, shape in SHAPES.items() if name != "pooler.dense.weight"}
    found = removal_of(random_ticket(0.3, 1), "pruned", {**shapes, "more.weight": (2, 2)})
    assert {name for name, _ in taken(found)} == set(shapes)
    lacking = random_ticket(0.3, 2, shapes)
    assert "pooler.dense.weight" not in {
        name for name, _ in taken(removal_of(random_ticket(0.3, 1), "departure", SHAPES, lacking))
    }


def test_a_neuron_goes_with_its_row_and_its_column():
    removal = removal_of(neurons({"encoder.layer.1": [3, 30]}), "kept", Subnet(model()).shapes)
    bits = removal.weights()
    assert removal.count == 2
    assert set(bits) == {"encoder.layer.1.intermediate.dense.weight", "encoder.layer.1.output.dense.weight"}
    row, column = bits["encoder.layer.1.intermediate.dense.weight"], bits["encoder.layer.1.output.dense.weight"]
    assert row.all(1).nonzero().flatten().tolist() == [3, 30]
    assert column.all(0).nonzero().flatten().tolist() == [3, 30]
    assert int(row.sum() + column.sum()) == 4 * 16


@pytest.mark.parametrize("what", ["kept", "pruned"])
def test_random_units_are_as_many_in_each_group_and_depend_on_seed_and_draw_alone(what):
    shapes = Subnet(model()).shapes
    units = removal_of(neurons({"encoder.layer.0": [1, 2, 3], "encoder.layer.1": [9]}), what, shapes)
    for removal in (units, removal_of(random_ticket(0.3, 1), what, SHAPES)):
        drawn = [removal.drawn(seed, draw).chosen for seed in (57, 58) for draw in range(3)]
        count = {name: int(bits.sum()) for name, bits in removal.chosen.items()}
        assert all({name: int(bits.sum()) for name, bits in one.items()} == count for one in drawn)
        assert len({str(one.to_packed()) for one in drawn}) == 6
        assert removal.drawn(57, 1).chosen == drawn[1]


def test_weights_come_back_bit_for_bit_and_the_output_is_that_of_zeroed_weights():
    mine, theirs = model(), model()
    subnet = Subnet(mine)
    removal = removal_of(neurons({"encoder.layer.0": [0, 5], "encoder.layer.1": [7]}), "kept", subnet.shapes)
    before = {name: tensor.clone() for name, tensor in mine.state_dict().items()}
    for layer, units in ((0, [0, 5]), (1, [7])):
        block = theirs.bert.encoder.layer[layer]
        block.intermediate.dense.weight.data[units] = 0
        block.output.dense.weight.data[:, units] = 0
    ids = torch.arange(5, 25).view(2, 10)
    with torch.no_grad():
        with subnet.removing(removal.weights()):
            found = mine(ids).logits
        assert torch.equal(found, theirs(ids).logits)
    assert all(torch.equal(tensor, before[name]) for name, tensor in mine.state_dict().items())
    with pytest.raises(RuntimeError, match="stop"), subnet.removing(removal.weights()):
        raise RuntimeError("stop")
    assert all(torch.equal(tensor, before[name]) for name, tensor in mine.state_dict().items())


def means_of(network: torch.nn.Module, ids: torch.Tensor, tokens: torch.Tensor) -> InputMeans:
    means = InputMeans(network)
    batch = {"input_ids": ids, "attention_mask": tokens, "labels": ids}
    with means.recording(), torch.no_grad():
        for part in range(len(ids)):
            chosen = {name: tensor[part : part + 1] for name, tensor in batch.items()}
            means.start(chosen)
            network(input_ids=chosen["input_ids"], attention_mask=chosen["attention_mask"])
    return means


def test_a_removed_weight_gives_its_mean_over_tokens_without_padding():
    mine, theirs = model(), model()
    ids = torch.randint(5, 60, (3, 12), generator=torch.Generator().manual_seed(0))
    tokens = torch.ones_like(ids)
    tokens[0, 7:], tokens[2, 3:] = 0, 0
    with torch.no_grad():  # the states before the last layer's feed-forward block, by the library
        hidden = mine.bert.encoder.layer[1].attention
        seen = []
        hook = hidden.register_forward_hook(lambda *args: seen.append(args[2][0]))
        mine(input_ids=ids, attention_mask=tokens)
        hook.remove()
    mean = seen[0][tokens.bool()].mean(0)
    name = "encoder.layer.1.intermediate.dense.weight"
    bits = torch.zeros(32, 16, dtype=torch.bool)
    bits[:, ::3] = True
    bits[4] = True
    dense = theirs.bert.encoder.layer[1].intermediate.dense
    dense.bias.data += (dense.weight.data * bits) @ mean
    dense.weight.data[bits] = 0
    subnet = Subnet(mine)
    with torch.no_grad():
        with filled(mine, {name: bits}, means_of(mine, ids, tokens)), subnet.removing({name: bits}):
            found = mine(input_ids=ids, attention_mask=tokens).logits
        after = mine(input_ids=ids, attention_mask=tokens).logits
        assert torch.allclose(found, theirs(input_ids=ids, attention_mask=tokens).logits, atol=1e-5)
        assert torch.equal(after, model()(input_ids=ids, attention_mask=tokens).logits)


def test_the_mean_of_gpt2s_layers_which_hold_their_weights_the_other_way_round():
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2, attn_pdrop=0, resid_pdrop=0, embd_pdrop=0)
    network = GPT2Model(config).eval()
    ids = torch.arange(10).view(1, 10)
    bits = torch.zeros(16, 64, dtype=torch.bool)
    bits[:, 3:9] = True
    # All weights of some outputs: they give their mean over the sample, whatever the input.
    layer, seen = network.h[0].mlp.c_fc, []
    with torch.no_grad():
        means = means_of(network, ids, torch.ones_like(ids))
        with filled(network, {"h.0.mlp.c_fc.weight": bits}, means):
            hook = layer.register_forward_hook(lambda *args: seen.append(args[2][0]))
            with Subnet(network).removing({"h.0.mlp.c_fc.weight": bits}):
                network(ids)
        network(ids)
        hook.remove()
    found, dense = seen
    assert torch.allclose(found[:, 3:9], dense[:, 3:9].mean(0).expand(10, 6), atol=1e-5)
    assert torch.allclose(found[:, 9:], dense[:, 9:], atol=1e-6)


def test_stacked_experts_have_no_mean():
    config = MixtralConfig(
        vocab_size=50, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, num_local_experts=2,
    )  # fmt: skip
    with pytest.raises(UserError, match="--fill zero"):
        InputMeans(MixtralModel(config))


def test_the_reference_is_the_only_one_or_that_of_the_same_sparsity_and_units():
    mine = random_ticket(0.5, 1)
    half, fifth = (random_ticket(1 - s, 9, sparsity=s, language="en+fr") for s in (0.5, 0.2))
    assert reference_for(mine, [fifth]) is fifth
    assert reference_for(mine, [fifth, half]) is half
    for others in ([fifth, fifth], [half, half]):
        with pytest.raises(UserError, match="name exactly one"):
            reference_for(mine, others)


def test_what_cannot_be_taken_away_is_refused():
    shapes = Subnet(model()).shapes
    none = {name: np.zeros(shape, bool) for name, shape in SHAPES.items()}
    with pytest.raises(UserError, match="leaves nothing to take away"):
        removal_of(ticket(none), "kept", SHAPES)
    with pytest.raises(UserError, match="departure is empty"):
        removal_of(random_ticket(0.3, 1), "departure", SHAPES, random_ticket(0.3, 1))
    whole = ticket({name: np.ones(shape, bool) for name, shape in shapes.items()})
    with pytest.raises(UserError, match="of neurons, its reference"):
        removal_of(neurons({"encoder.layer.0": [1]}), "departure", shapes, whole)
    few = {name: shape for name, shape in shapes.items() if "output" not in name}
    with pytest.raises(UserError, match="which the model lacks"):
        removal_of(neurons({"encoder.layer.0": [1]}), "kept", few)


def test_the_source_of_a_difference_is_what_it_was_taken_from():
    tickets = [random_ticket(0.5, n, language=language) for n, language in enumerate(("fr", "en", "de"))]
    assert source_of(combine(tickets, "difference")) == "fr"
    assert source_of(combine(tickets, "union")) == "fr+en+de"
    assert source_of(tickets[1]) == "en"


def test_a_difference_of_neurons_is_of_neurons():
    mine, theirs = neurons({"encoder.layer.0": [1, 2, 3]}), neurons({"encoder.layer.0": [2], "encoder.layer.1": [5]})
    removal = removal_of(combine([mine, theirs], "difference"), "kept", Subnet(model()).shapes)
    assert {name: bits.nonzero().flatten().tolist() for name, bits in removal.chosen.items()} == {
        "encoder.layer.0": [1, 3],
        "encoder.layer.1": [],
    }
    assert removal.count == 2
    mixed = combine([mine, random_ticket(0.5, 1, dict(mine.shapes))], "union")
    assert mixed.units is None
