"""Files are written completely or not at all."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from common.files import replacing, sha256_of


def test_a_file_is_replaced_by_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    for text in ("first", "second"):
        with replacing(path) as part:
            part.write_text(text)
        assert path.read_text() == text
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_only_its_owner_could_read_gets_the_permissions_of_others(tmp_path: Path) -> None:
    usual, path = tmp_path / "usual", tmp_path / "vectors.safetensors"
    usual.touch()
    with replacing(path) as part:
        save_file({"x": torch.zeros(1)}, part)
    assert path.stat().st_mode == usual.stat().st_mode


@pytest.mark.parametrize("written", [True, False])
def test_a_failure_leaves_the_file_as_it_was_and_nothing_beside_it(tmp_path: Path, written: bool) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")

    def write() -> None:
        with replacing(path) as part:
            if written:
                part.write_text("half")
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        write()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_hash_of_a_file_is_that_of_its_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1.
    assert sha256_of(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
