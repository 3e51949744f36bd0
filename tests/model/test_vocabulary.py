import pytest

from capcli.model.vocabulary import END, PAD, SPECIAL_WORDS, START, UNKNOWN, Vocabulary, tokenize


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        ("A black-and-white dog 's ball .", ["a", "black-and-white", "dog", "'s", "ball"]),
        ("The man's T-shirt, isn’t it?", ["the", "man", "'s", "t-shirt", "isn", "'t", "it"]),
        ('"Two" (2) CAFÉS!', ["two", "2", "cafés"]),
        (" . , ", []),
    ],
)
def test_tokenize(sentence: str, words: list[str]) -> None:
    assert tokenize(sentence) == words


def test_words_by_frequency_then_alphabet() -> None:
    vocabulary = Vocabulary.build(["b a c", "a b", "a d"], min_count=1)
    assert vocabulary.words == [*SPECIAL_WORDS, "a", "b", "c", "d"]
    assert Vocabulary.build(["b a c", "a b", "a d"], min_count=2).words == [*SPECIAL_WORDS, "a", "b"]


def test_there_and_back() -> None:
    vocabulary = Vocabulary.build(["the man 's t-shirt"], min_count=1)
    ids = vocabulary.encode("The man's T-shirt!")
    assert UNKNOWN not in ids
    assert vocabulary.decode([START, *ids, END, PAD, UNKNOWN]) == "the man's t-shirt"
    assert vocabulary.encode("a man")[0] == UNKNOWN


def test_a_broken_vocabulary_is_refused() -> None:
    with pytest.raises(ValueError, match="begins with <pad>"):
        Vocabulary(["a", "b"])
    with pytest.raises(ValueError, match="twice"):
        Vocabulary([*SPECIAL_WORDS, "a", "a"])
