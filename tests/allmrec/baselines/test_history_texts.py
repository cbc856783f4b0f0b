import pytest
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from allmrec.baselines.history_texts import around
from tests.allmrec.tiny import word_tokenizer

VOCABULARY = {word: i for i, word in enumerate(["<s>", "</s>", "<unk>", "chosen", "so", "far", ":"])}


@pytest.mark.parametrize(
    ("template", "front", "back"),
    [("<s> $A </s>", [0], [1]), ("$A </s>", [], [1]), ("<s> $A", [0], []), ("$A", [], []), ("<s> <s> $A", [0, 0], [])],
)
def test_special_tokens_stand_where_the_tokenizer_puts_them(template: str, front: list[int], back: list[int]) -> None:
    tokenizer = word_tokenizer(VOCABULARY)
    special = [(token, VOCABULARY[token]) for token in ("<s>", "</s>")]
    tokenizer.post_processor = TemplateProcessing(single=template, special_tokens=special)
    assert around(PreTrainedTokenizerFast(tokenizer_object=tokenizer)) == (front, back)
