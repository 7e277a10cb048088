"""Models that are told which language they read: mBART and NLLB by a token of the text, X-MOD by its adapters."""

import copy
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any, cast

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lnsub.common.errors import UserError
from lnsub.models.pretrained import load_config, load_tokenizer

LANG_IDS = "lang_ids"
"""A column of rows, and entry of a batch: each row's :func:`adapter_of`, int64 [batch]."""

# ISO 639-1 codes and what FLORES-200, whose codes NLLB has, calls the language: https://arxiv.org/abs/2207.04672,
# table 1. Where it has several scripts or varieties, the one that Wikipedia of that code is written in.
_FLORES_200 = """
    af:afr_Latn am:amh_Ethi ar:arb_Arab as:asm_Beng az:azj_Latn be:bel_Cyrl bg:bul_Cyrl bn:ben_Beng bs:bos_Latn
    ca:cat_Latn cs:ces_Latn cy:cym_Latn da:dan_Latn de:deu_Latn el:ell_Grek en:eng_Latn eo:epo_Latn es:spa_Latn
    et:est_Latn eu:eus_Latn fa:pes_Arab fi:fin_Latn fr:fra_Latn ga:gle_Latn gl:glg_Latn gu:guj_Gujr ha:hau_Latn
    he:heb_Hebr hi:hin_Deva hr:hrv_Latn ht:hat_Latn hu:hun_Latn hy:hye_Armn id:ind_Latn ig:ibo_Latn is:isl_Latn
    it:ita_Latn ja:jpn_Jpan jv:jav_Latn ka:kat_Geor kk:kaz_Cyrl km:khm_Khmr kn:kan_Knda ko:kor_Hang ky:kir_Cyrl
    lo:lao_Laoo lt:lit_Latn lv:lvs_Latn mg:plt_Latn mk:mkd_Cyrl ml:mal_Mlym mn:khk_Cyrl mr:mar_Deva ms:zsm_Latn
    my:mya_Mymr ne:npi_Deva nl:nld_Latn no:nob_Latn om:gaz_Latn or:ory_Orya pa:pan_Guru pl:pol_Latn ps:pbt_Arab
    pt:por_Latn ro:ron_Latn ru:rus_Cyrl sd:snd_Arab si:sin_Sinh sk:slk_Latn sl:slv_Latn so:som_Latn sq:als_Latn
    sr:srp_Cyrl su:sun_Latn sv:swe_Latn sw:swh_Latn ta:tam_Taml te:tel_Telu tg:tgk_Cyrl th:tha_Thai tl:tgl_Latn
    tr:tur_Latn ug:uig_Arab uk:ukr_Cyrl ur:urd_Arab uz:uzn_Latn vi:vie_Latn xh:xho_Latn yo:yor_Latn zh:zho_Hans
    zu:zul_Latn
"""


@cache
def _flores() -> dict[str, str]:
    return {pair[:2]: pair[3:] for pair in _FLORES_200.split()}


@lru_cache(maxsize=32)
def tokenizer_of(name: str, language: str) -> PreTrainedTokenizerBase:
    """Loads a model's tokenizer, set to a language where it has one; what it makes as a target is English.

    Args:
        name: folder or name on the Hub.
        language: the language's code, such as ``fr``; or the model's own, such as ``fra_Latn``.

    Raises:
        UserError: see :func:`~lnsub.models.pretrained.load_tokenizer`; or the model has no code for the language.
    """
    tokenizer = load_tokenizer(name)
    if not hears_language(tokenizer):
        return tokenizer
    codes = [token for token in tokenizer.all_special_tokens if "_" in token]
    found: Any = copy.deepcopy(tokenizer)
    found.src_lang = _code(name, language, codes)
    return cast(PreTrainedTokenizerBase, found)


def hears_language(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a tokenizer puts a token for the language into each text."""
    return hasattr(tokenizer, "src_lang")


def adapter_of(name: str, language: str) -> int | None:
    """Returns the number of a language's adapters in a model that has some for each language, as X-MOD does.

    Args:
        name: folder or name on the Hub.
        language: the language's code.

    Returns:
        The number, an entry of the model's ``lang_ids``; None for a model without such adapters.

    Raises:
        UserError: the model has no adapters for the language.
    """
    config = load_config(name)
    if config.model_type != "xmod":
        return None
    languages = [str(code) for code in config.languages]
    return languages.index(_code(name, language, languages))


def set_default_language(model: PreTrainedModel, name: str, language: str) -> None:
    """Has a model with adapters for each language use those of one where its caller names none.

    Args:
        model: the model; one without such adapters is left as it is.
        name: its folder or name on the Hub.
        language: a language's code; of one that the model does not know, such as a mixture, it keeps its own default.
    """
    try:
        adapter = adapter_of(name, language)
    except UserError:
        return
    if adapter is not None:
        model.set_default_language(str(model.config.languages[adapter]))


def _code(name: str, language: str, codes: Sequence[str]) -> str:
    """What a model calls a language: the same, FLORES' name, or the code that starts with it (``fr_XX``)."""
    for code in codes:
        if code in (language, _flores().get(language)) or code.split("_")[0] == language:
            return code
    raise UserError(
        f"'{name}' is told the language of each text, and has no code for '{language}': use a language that it knows, "
        f"such as {', '.join(sorted(codes)[:5])}."
    )
