import os
from pathlib import Path
from collections.abc import Iterator

import pytest

from darkroom_client import Client

PHOTOS = Path(__file__).parents[3] / "tests/fixtures/photos"


@pytest.fixture(scope="session", autouse=True)
def service() -> None:
    if "DARKROOM_URL" not in os.environ:
        pytest.exit("set DARKROOM_URL and DARKROOM_API_KEY, or use `tests/run python_client`", 2)


@pytest.fixture
def darkroom() -> Iterator[Client]:
    with Client() as client:
        yield client


@pytest.fixture
def photo() -> Path:
    return PHOTOS / "coffee.jpg"
