"""Tests of the names of classes."""

import re

import pytest

from data_prep import class_names


def test_imagenet_has_a_thousand_synsets_in_alphabetical_order():
    synsets = [synset for synset, _ in class_names.imagenet_classes()]
    assert len(synsets) == class_names.NUM_IMAGENET_CLASSES == 1000
    assert synsets == sorted(set(synsets))
    assert all(re.fullmatch(r"n\d{8}", synset) for synset in synsets)


def test_names_are_words_and_but_for_the_cranes_different():
    names = [name for _, name in class_names.imagenet_classes()]
    assert all(re.fullmatch(r"[\w .,'/&-]+", name) for name in names)
    assert {name for name in names if names.count(name) > 1} == {"crane"}


@pytest.mark.parametrize(
    ("label", "synset", "name"),
    [
        (0, "n01440764", "tench, Tinca tinca"),
        (134, "n02012849", "crane"),
        (281, "n02123045", "tabby, tabby cat"),
        (517, "n03126707", "crane"),
        (638, "n03710637", "maillot"),
        (639, "n03710721", "maillot, tank suit"),
        (
            999,
            "n15075141",
            "toilet tissue, toilet paper, bathroom tissue",
        ),
    ],
)
def test_some_classes_stand_where_they_are_known_to(label, synset, name):
    assert class_names.imagenet_classes()[label] == (synset, name)
    assert class_names.imagenet_labels()[synset] == label


def test_the_list_is_read_once():
    first = class_names.imagenet_classes()
    assert class_names.imagenet_classes() is first


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "cat\n\n big dog \n"),
        ("a.txt", "n1\tcat\nn2\tbig dog"),
        ("a.json", '["cat", "big dog"]'),
    ],
)
def test_names_are_read_from_text_and_json(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert class_names.read_class_names(tmp_path / name) == ("cat", "big dog")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", r"must hold a list of names. Received: \[\]"),
        ("a.txt", b"\xff\xd8\xff", "is not text"),
        ("a.json", b"{", "is not valid JSON"),
        ("a.json", b'{"a": 1}', r'Received: {"a": 1}'),
        ("a.json", b'["a", 1]', r'Received: \["a", 1\]'),
    ],
)
def test_files_that_hold_no_names_are_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as raised:
        class_names.read_class_names(tmp_path / name)
    assert str(tmp_path / name) in str(raised.value)


def test_a_missing_file_of_names_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file .*nothing.txt"):
        class_names.read_class_names(tmp_path / "nothing.txt")
