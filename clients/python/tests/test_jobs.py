"""These tests need a real stack."""

import asyncio
import io
import uuid
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from darkroom_client import AsyncClient, Client, NotFound, Refused, StillRunning


def test_a_photo_is_predicted(darkroom: Client, photo: Path) -> None:
    labels = darkroom.predict(photo, params={"top_k": 2})["labels"]
    assert len(labels) == 2
    assert "espresso" in [label["label"] for label in labels]


def test_path_bytes_and_file_submit_one_image(darkroom: Client, photo: Path) -> None:
    forms = [str(photo), photo, photo.read_bytes(), io.BytesIO(photo.read_bytes())]
    assert len({darkroom.submit(form)["input"]["image"] for form in forms}) == 1


def test_pixels_of_pillow_and_numpy_are_predicted(darkroom: Client, photo: Path) -> None:
    with PIL.Image.open(photo) as picture:
        array = np.asarray(picture)
        jobs = [darkroom.submit(form, params={"top_k": 1}, wait=True) for form in (picture, array)]
    best = [job.result["labels"][0] for job in jobs]
    assert best[0]["label"] == best[1]["label"]
    assert best[0]["score"] == pytest.approx(best[1]["score"], abs=1e-3)
    assert best[0]["label"] in [one["label"] for one in darkroom.predict(photo, params={"top_k": 2})["labels"]]
    assert [job["input"]["content_type"] for job in jobs] == ["image/png"] * 2
    gray = array.mean(axis=2).astype(np.uint8)
    assert darkroom.predict(gray)["labels"]


def test_a_folder_goes_on_over_bad_files(darkroom: Client, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more/good.jpg").write_bytes(photo.read_bytes())
    (tmp_path / "torn.jpg").write_bytes(photo.read_bytes()[:2000])
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty.webp").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("left out")
    outcomes = {one.path.name: one for one in darkroom.predict_folder(tmp_path, fresh=True)}
    assert set(outcomes) == {"good.jpg", "torn.jpg", "text.png", "empty.webp"}
    good = outcomes.pop("good.jpg")
    assert good.job is not None and good.result == good.job.result
    assert not any(one.succeeded for one in outcomes.values())
    with pytest.raises(NotFound, match="unknown_model"):
        list(darkroom.predict_folder(tmp_path, model="nothing"))


def test_a_job_is_followed_to_its_result(darkroom: Client, photo: Path) -> None:
    job = darkroom.submit(photo, metadata={"who": "pytest"}, fresh=True)
    done = darkroom.wait(job, timeout=60)
    assert done.succeeded and done["metadata"] == {"who": "pytest"}
    assert darkroom.result(job) == done.result
    assert darkroom.get(job.id).status == "succeeded"


def test_options_that_do_not_fit_a_query_are_sent_as_multipart(darkroom: Client, photo: Path) -> None:
    job = darkroom.submit(photo, params={"top_k": 1}, metadata={"count": 3, "tags": ["a"]})
    assert job["metadata"] == {"count": 3, "tags": ["a"]}
    assert job["params"]["top_k"] == 1


def test_a_named_run_submits_each_image_once(photo: Path) -> None:
    run = str(uuid.uuid4())
    with Client(run=run) as first, Client(run=run) as again, Client(run=run + "x") as other:
        job = first.submit(photo, priority=1)
        assert again.submit(photo, priority=1).id == job.id
        assert first.submit(photo, priority=2, fresh=True).id != job.id
        assert other.submit(photo, priority=1, fresh=True).id != job.id


def test_a_list_reads_all_pages(darkroom: Client, photo: Path) -> None:
    mark = str(uuid.uuid4())
    ids = [darkroom.submit(photo, metadata={"mark": mark}, fresh=True).id for _ in range(5)]
    listed = [job.id for job in darkroom.list(metadata={"mark": mark}, limit=2)]
    assert listed == ids[::-1]


def test_a_refusal_has_a_code_and_a_pointer(darkroom: Client, photo: Path) -> None:
    with pytest.raises(Refused) as refused:
        darkroom.submit(photo, params={"top_k": -1})
    assert refused.value.code == "invalid_params"
    assert refused.value.errors[0]["pointer"] == "/params/top_k"
    assert refused.value.request_id and not refused.value.retryable
    text = str(refused.value)
    assert "/params/top_k: must lie in" in text and refused.value.request_id in text
    with pytest.raises(Refused, match="/params/topk: the model has no such parameter"):
        darkroom.submit(photo, params={"topk": 5})
    with pytest.raises(Refused) as refused:
        darkroom.submit(b"no image")
    assert refused.value.code == "unsupported_media_type"
    with pytest.raises(NotFound):
        darkroom.get("job_" + uuid.uuid4().hex)


def test_a_scheduled_job_can_be_canceled_retried_and_deleted(darkroom: Client, photo: Path) -> None:
    job = darkroom.submit(photo, run_at="2099-01-01T00:00:00Z")
    with pytest.raises(StillRunning):
        darkroom.wait(job, timeout=0)
    assert darkroom.explain(job)["status"] == "scheduled"
    assert darkroom.cancel(job).status == "canceled"
    assert darkroom.retry(job).id == job.id
    assert darkroom.wait(job, timeout=60).succeeded
    darkroom.delete(job)
    with pytest.raises(NotFound):
        darkroom.get(job)


def test_the_async_client_submits_and_lists_jobs(photo: Path) -> None:
    async def many() -> list[str]:
        async with AsyncClient() as darkroom:
            submits = (darkroom.submit(photo, wait=True, metadata={"n": str(n)}) for n in range(4))
            jobs = await asyncio.gather(*submits)
            listed = [job.id async for job in darkroom.list(limit=2, status="succeeded")]
            assert {job.id for job in jobs} <= set(listed)
            return [job.status for job in jobs]

    assert asyncio.run(many()) == ["succeeded"] * 4
