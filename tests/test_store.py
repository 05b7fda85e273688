"""The store: nothing measured is lost, nothing damaged is believed."""

from __future__ import annotations

import pytest

from code_opt.errors import InputError
from code_opt.store import Store, key_of


def test_what_is_added_is_found_again(tmp_path):
    store = Store(tmp_path / "work")
    store.add("a", {"accuracy": 0.5})
    store.add("b", {"accuracy": 0.25})
    again = Store(tmp_path / "work")
    assert (
        again.records
        == store.records
        == {
            "a": {"key": "a", "accuracy": 0.5},
            "b": {"key": "b", "accuracy": 0.25},
        }
    )
    assert "a" in again
    assert again.get("c") is None


@pytest.mark.parametrize("torn", [b'{"key": "c", "accu', b"{", b"\xff\xfe", b'{"key": "c"}'])
def test_a_line_cut_short_is_dropped_and_the_next_one_is_whole(tmp_path, torn):
    Store(tmp_path).add("a", {"x": 1})
    with (tmp_path / "measurements.jsonl").open("ab") as stream:
        stream.write(torn)
    store = Store(tmp_path)
    assert list(store.records) == ["a"]
    store.add("b", {"x": 2})
    assert list(Store(tmp_path).records) == ["a", "b"]


@pytest.mark.parametrize("line", [b"nonsense", b"[]", b'"a"', b"{}", b"3", b"\xff"])
def test_a_damaged_line_costs_only_itself(tmp_path, line):
    store = Store(tmp_path)
    store.add("a", {"x": 1})
    with (tmp_path / "measurements.jsonl").open("ab") as stream:
        stream.write(line + b"\n")
    store = Store(tmp_path)
    store.add("b", {"x": 2})
    assert list(Store(tmp_path).records) == ["a", "b"]


def test_a_later_measurement_replaces_an_earlier_one(tmp_path):
    store = Store(tmp_path)
    store.add("a", {"x": 1})
    store.add("a", {"x": 2})
    assert Store(tmp_path).get("a") == {"key": "a", "x": 2}


def test_what_is_no_number_is_not_kept(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        Store(tmp_path).add("a", {"x": float("nan")})
    assert Store(tmp_path).records == {}


def test_a_file_in_the_way_is_an_error(tmp_path):
    (tmp_path / "work").write_text("")
    with pytest.raises(InputError, match="cannot be made"):
        Store(tmp_path / "work")


def test_keys_depend_on_the_data_alone():
    assert key_of("a", {"x": 1, "y": [2.5]}) == key_of("a", {"y": [2.5], "x": 1})
    assert len({key_of("a"), key_of("b"), key_of("a", 1), key_of(["a", 1])}) == 4
    # A key that changed between versions would make finished work worthless.
    assert key_of("path", {"n": 1}) == "04a4cc0217b5d998a8cf"


def test_a_store_that_cannot_be_written_or_read_is_named(tmp_path):
    store = Store(tmp_path)
    store.path.mkdir()
    with pytest.raises(InputError, match=r"measurements\.jsonl: cannot be written: Is a directory"):
        store.add("a", {})
    assert "a" not in store
    with pytest.raises(InputError, match=r"measurements\.jsonl: cannot be read: Is a directory"):
        Store(tmp_path)
