"""A ticket on a model that has other parameters than the one it was found in."""

import numpy as np
import pytest
import torch
from transformers import BertForTokenClassification

from lnsub.common.errors import UserError
from lnsub.models.apply import apply_ticket, check_fit
from lnsub.models.subnet import Subnet
from lnsub.tickets.ticket import Ticket
from tests.support.models import bert_classifier, bert_config
from tests.support.ticket_factory import provenance, random_masks, ticket

POOLER = "pooler.dense.weight"


@pytest.fixture
def subnet() -> Subnet:
    return Subnet(bert_classifier())


@pytest.fixture
def tagger() -> Subnet:
    """A model without a pooler."""
    return Subnet(BertForTokenClassification(bert_config()))


def test_the_mask_is_applied_to_what_both_have(subnet, tagger):
    masks = random_masks(0.5, 1, subnet.shapes)
    fit = apply_ticket(ticket(masks), tagger, "the-base")
    assert (len(fit.shared), fit.only_ticket, fit.only_model) == (12, (POOLER,), ())
    assert all(np.array_equal(bits.numpy(), masks[name]) for name, bits in tagger.mask.items())
    for name, weight in tagger.weights.items():
        assert not weight[torch.from_numpy(~masks[name])].any()
    assert check_fit(ticket(masks), tagger, "the-base") == fit


def test_what_only_the_model_has_stays_dense(subnet, tagger):
    subnet.set_mask(subnet.mask - subnet.mask)  # all pruned
    fit = apply_ticket(ticket(random_masks(0.5, 1, tagger.shapes)), subnet, "the-base")
    assert fit.only_model == (POOLER,)
    assert subnet.mask[POOLER].all()
    assert not subnet.mask["encoder.layer.0.output.dense.weight"].all()


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("encoder.layer.0.attention.self.query.weight", [r"\(4, 4\)", r"\(16, 16\) in the-base"]),
        ("x.weight", [r"x\.weight", "the-base", "tiny-bert"]),
    ],
)
def test_a_ticket_of_other_names_or_shapes_is_refused_and_changes_nothing(name, facts, subnet):
    other = Ticket({name: np.zeros(2, np.uint8)}, {name: (4, 4)}, provenance())
    with pytest.raises(UserError, match=".*".join(facts)):
        apply_ticket(other, subnet, "the-base")
    assert subnet.mask.kept == subnet.mask.total
