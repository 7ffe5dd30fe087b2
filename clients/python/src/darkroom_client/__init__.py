"""Client of Darkroom, a job API for image inference."""

from ._async import AsyncBatches, AsyncClient
from ._folder import FilePrediction
from ._images import Image
from ._models import AsyncModels, Models
from ._retries import Retries
from ._sync import Batches, Client
from ._wire import Job, JobFields, batch_line
from .errors import (
    DarkroomError,
    JobFailed,
    ModelRejected,
    NotFound,
    Refused,
    StillRunning,
    Unavailable,
    Unreachable,
    WebhookError,
)
from .webhooks import verify_webhook

__all__ = [
    "AsyncBatches",
    "AsyncClient",
    "AsyncModels",
    "Batches",
    "Client",
    "DarkroomError",
    "FilePrediction",
    "Image",
    "Job",
    "JobFailed",
    "JobFields",
    "ModelRejected",
    "Models",
    "NotFound",
    "Refused",
    "Retries",
    "StillRunning",
    "Unavailable",
    "Unreachable",
    "WebhookError",
    "batch_line",
    "verify_webhook",
]
