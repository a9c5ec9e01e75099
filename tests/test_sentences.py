"""Sentences: allowed letters, and three splits that share nothing."""

import random
import re

import pytest

from hvisk import text
from hvisk.corpora import foreign
from hvisk.corpora import sentences as module
from hvisk.corpora.sentences import SPLITS, expand, grammar, natural, sentences, split_of
from hvisk.errors import CorpusError

ALLOWED = re.compile(r"[A-ZÆØÅ][A-ZÆØÅa-zæøåé ,]*[.?!]")


def test_the_hand_written_sentences_are_many_different_and_of_4_to_14_words():
    assert len(natural()) >= 450
    assert len({text.normalise(s) for s in natural()}) == len(natural())
    for sentence in natural():
        assert 4 <= len(sentence.split()) <= 14 or sentence == "Jeg elsker tebirkes.", sentence


def test_every_sentence_has_letters_commas_and_one_final_mark():
    for sentence in (*natural(), *sentences("train", 5000), *sentences("test", 500)):
        assert ALLOWED.fullmatch(sentence), sentence
        assert "  " not in sentence
        assert " ," not in sentence


@pytest.mark.parametrize("seed", [0, 1, 2026])
def test_no_sentence_is_in_two_splits(seed):
    train = {text.normalise(s) for s in sentences("train", 8000, seed)}
    for other in range(3):  # a test set of one seed against the training of another
        validation = {text.normalise(s) for s in sentences("validation", 300, other)}
        test = {text.normalise(s) for s in sentences("test", 500, other)}
        assert not train & validation
        assert not train & test
        assert not validation & test


@pytest.mark.parametrize("split", ["validation", "test"])
def test_held_out_sentences_come_once(split):
    found = [text.normalise(s) for s in sentences(split, 1000)]
    assert len(set(found)) == len(found)


def test_the_same_seed_gives_the_same_sentences_and_fewer_are_the_beginning():
    for split in SPLITS:
        assert sentences(split, 50, 7) == sentences(split, 200, 7)[:50]
        assert sentences(split, 50, 7) != sentences(split, 50, 8)


def test_tebirkes_is_never_heard_in_training():
    assert "Jeg elsker tebirkes." in natural()
    assert split_of("Jeg elsker tebirkes.") == "test"
    assert split_of("Køb nogle TEBIRKES, tak!") == "test"
    assert "Jeg elsker tebirkes." in sentences("test", 300)
    assert not any("tebirkes" in s for s in sentences("train", 5000))


def test_case_and_marks_do_not_move_a_sentence_to_another_split():
    for sentence in natural():
        assert split_of(sentence.lower().rstrip(".?!")) == split_of(sentence.upper()) == split_of(sentence)


def test_the_splits_have_their_shares():
    found = [split_of(expand(grammar(), "{sentence}", random.Random(i))) for i in range(4000)]
    assert found.count("test") / 4000 == pytest.approx(0.10, abs=0.02)
    assert found.count("validation") / 4000 == pytest.approx(0.05, abs=0.02)


def test_training_mixes_natural_and_made_sentences_in_a_rich_vocabulary():
    found = sentences("train", 10_000)
    hand = set(natural())
    assert sum(s in hand for s in found) / len(found) == pytest.approx(0.35, abs=0.02)
    assert len({s for s in found if s not in hand}) > 6000
    assert len({word for s in found for word in text.words(s)}) > 2800
    lengths = [len(s.split()) for s in found if s not in hand]
    assert min(lengths) >= 3
    assert max(lengths) <= 10


def test_every_rule_of_the_grammar_exists():
    rules = grammar()
    named = {name for options in rules.values() for option in options for name in re.findall(r"\{(\w+)\}", option)}
    assert named - set(module._MADE) <= set(rules)


def test_a_verb_of_two_words_lets_the_subject_stand_between_them():
    assert "ledte {who} efter" in grammar()["handle_past_who"]
    assert "ledte efter" in grammar()["handle_past"]
    assert "lede efter" in grammar()["handle_to"]


def test_dates_exist():
    found = {module._date(random.Random(i)) for i in range(8000)}
    assert len(found) == 366
    assert "den niogtyvende februar" in found
    assert "den tredivte februar" not in found


def test_an_unknown_split_is_named_with_the_known_ones():
    with pytest.raises(CorpusError, match=r"no split 'dev'.*train, validation, test"):
        sentences("dev", 1)


@pytest.mark.parametrize("language", foreign.LANGUAGES)
def test_pseudo_sentences_are_endless_and_made_of_the_languages_letters(language):
    found = [s for s, _ in zip(foreign.pseudo_sentences(language), range(500), strict=False)]
    assert len(set(found)) > 490
    letters = set("".join(foreign.words(language)).lower())
    real = {word.lower() for word in foreign.words(language)}
    words = []
    for sentence in found:
        assert sentence[0].isupper()
        assert sentence[-1] in ".?!"
        assert 2 <= len(sentence.split()) <= 8
        words += sentence[:-1].lower().split()
    assert set("".join(words)) <= letters
    # Half are drawn from the list, and the chain finds some of those by itself.
    assert 0.45 < sum(word in real for word in words) / len(words) < 0.75
    assert len(set(words)) > 700


@pytest.mark.parametrize("language", foreign.LANGUAGES)
def test_each_language_has_150_common_words(language):
    assert len(set(foreign.words(language))) >= 150


def test_pseudo_sentences_follow_their_seed_and_split():
    first = [s for s, _ in zip(foreign.pseudo_sentences("sv", 1), range(5), strict=False)]
    assert first == [s for s, _ in zip(foreign.pseudo_sentences("sv", 1), range(5), strict=False)]
    assert first != [s for s, _ in zip(foreign.pseudo_sentences("sv", 2), range(5), strict=False)]
    for split in SPLITS:
        assert {split_of(foreign.sentence("de", split, 0, i)) for i in range(50)} == {split}


def test_languages_go_by_whispers_codes_too():
    assert foreign.whisper_code("nb") == "no"
    assert foreign.whisper_code("sv") == "sv"


def test_a_language_without_words_is_an_error():
    with pytest.raises(CorpusError, match=r"no words in 'da'.*nb"):
        next(foreign.pseudo_sentences("da"))
