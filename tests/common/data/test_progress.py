from pathlib import Path

import pytest

from common.data import progress


@pytest.mark.parametrize("worth", [0, 1 << 26])
def test_bars_and_spinners_leave_standard_output_alone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, worth: int
) -> None:
    monkeypatch.setattr(progress, "_WORTH_A_BAR", worth)
    path = tmp_path / "file"
    path.write_bytes(b"content")
    with progress.working("Waiting", 1), progress.reading(path, "Reading") as stream:
        assert stream.read() == b"content"
    assert capfd.readouterr().out == ""
