"""What of a file may count while it is being saved."""

import io
from pathlib import Path

import pytest

from fairway_operator.cli.dev.source import LOSS_SECONDS, FileSource, Reading

ONE = "apiVersion: v1\nkind: Service\nmetadata: {name: one}\n"
TWO = ONE + "---\n" + ONE.replace("one", "two")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "services.yaml"
    file.write_text(TWO)
    return file


def source_of(path: Path) -> FileSource:
    source = FileSource([str(path)], io.BytesIO())
    source.scan(0.0)
    return source


def names(reading: Reading) -> list[str]:
    return [each.ref.name for content in reading.contents.values() for each in content.manifests]


def test_what_is_new_counts_at_once(file: Path) -> None:
    source = source_of(file)
    file.write_text(TWO + "---\n" + ONE.replace("one", "three"))

    reading = source.scan(1.0)

    assert names(reading) == ["one", "two", "three"]
    assert not reading.unsettled


@pytest.mark.parametrize("text", [ONE, "", None], ids=["shorter", "emptied", "gone"])
def test_a_loss_counts_when_it_lasts(file: Path, text: str | None) -> None:
    source = source_of(file.parent)
    if text is None:
        file.unlink()
    else:
        file.write_text(text)

    first = source.scan(1.0)
    soon = source.scan(1.0 + LOSS_SECONDS / 2)
    later = source.scan(1.0 + LOSS_SECONDS)

    assert names(first) == names(soon) == ["one", "two"]
    assert first.unsettled
    assert soon.unsettled
    assert names(later) == ([] if not text else ["one"])
    assert not later.unsettled


@pytest.mark.parametrize("text", ["", None], ids=["emptied", "moved away"])
def test_a_loss_that_does_not_last_was_none(file: Path, text: str | None) -> None:
    source = source_of(file.parent)
    if text is None:
        file.rename(file.with_suffix(".bak"))
    else:
        file.write_text(text)
    source.scan(1.0)
    file.write_text(TWO.replace("one", "uno"))
    source.scan(1.01)

    reading = source.scan(1.01 + LOSS_SECONDS)

    assert names(reading) == ["uno", "two"]
    assert not reading.unsettled


def test_a_text_that_cannot_be_read_leaves_what_was(file: Path) -> None:
    source = source_of(file)
    file.write_text(TWO.replace("name: two}", "name: two"))

    reading = source.scan(1.0)

    assert names(reading) == ["one", "two"]
    assert reading.stale == (str(file),)
    assert [problem.reason for problem in reading.problems] == ["Syntax"]
    assert names(source.scan(60.0)) == ["one", "two"]


def test_a_file_that_was_never_right_counts_as_far_as_it_can_be_read(tmp_path: Path) -> None:
    file = tmp_path / "services.yaml"
    file.write_text(ONE + "---\n{")
    source = FileSource([str(file)], io.BytesIO())

    reading = source.scan(0.0)

    assert names(reading) == ["one"]
    assert reading.stale == ()


def test_a_named_file_that_is_deleted_loses_its_objects_and_may_come_back(file: Path) -> None:
    source = source_of(file)
    file.unlink()
    source.scan(1.0)

    assert names(source.scan(2.0)) == []
    file.write_text(ONE)
    assert names(source.scan(3.0)) == ["one"]


def test_standard_input_is_read_once() -> None:
    source = FileSource(["-"], io.BytesIO(ONE.encode()))

    assert names(source.scan(0.0)) == names(source.scan(1.0)) == ["one"]
