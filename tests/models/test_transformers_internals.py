"""Each private name of transformers is there and does what lnsub takes it for."""

import pytest
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoModelForTokenClassification,
    BertForTokenClassification,
    BertModel,
    MT5Config,
)

from lnsub.models.transformers_internals import attention_of, has_class_for
from tests.support.models import bert_config


def test_an_auto_class_knows_the_models_that_it_makes():
    assert has_class_for(AutoModelForTokenClassification, bert_config())
    assert not has_class_for(AutoModelForSeq2SeqLM, bert_config())
    assert has_class_for(AutoModelForSeq2SeqLM, MT5Config())
    made = AutoModelForTokenClassification.from_config(bert_config())
    assert isinstance(made, BertForTokenClassification)


@pytest.mark.parametrize("name", ["eager", "sdpa"])
def test_a_model_tells_its_attention(name):
    model = BertModel._from_config(bert_config(), attn_implementation=name)
    assert attention_of(model) == name
    model.set_attn_implementation({"eager": "sdpa", "sdpa": "eager"}[name])
    assert attention_of(model) != name
