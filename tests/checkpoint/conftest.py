import pytest


@pytest.fixture
def folder(tmp_path):
    """Where checkpoints go; it is not there yet."""
    return tmp_path / "checkpoints"
