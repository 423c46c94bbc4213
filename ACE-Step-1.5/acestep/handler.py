"""AceStepHandler: a loaded checkpoint that answers LEGO requests."""

import threading
from typing import Any

from acestep.core.generation.handler.conditioning_target import ConditioningTargetMixin
from acestep.core.generation.handler.conditioning_text import ConditioningTextMixin
from acestep.core.generation.handler.diffusion import DiffusionMixin
from acestep.core.generation.handler.generate_music import GenerateMusicMixin
from acestep.core.generation.handler.generate_music_decode import GenerateMusicDecodeMixin
from acestep.core.generation.handler.init_service import InitServiceMixin
from acestep.core.generation.handler.io_audio import IoAudioMixin
from acestep.core.generation.handler.service_generate import ServiceGenerateMixin
from acestep.core.generation.handler.service_generate_execute import ServiceGenerateExecuteMixin
from acestep.core.generation.handler.task_utils import TaskUtilsMixin


class AceStepHandler(
    InitServiceMixin,
    TaskUtilsMixin,
    IoAudioMixin,
    ConditioningTextMixin,
    ConditioningTargetMixin,
    ServiceGenerateMixin,
    ServiceGenerateExecuteMixin,
    DiffusionMixin,
    GenerateMusicDecodeMixin,
    GenerateMusicMixin,
):
    """Empty until `initialize_service` has loaded a checkpoint."""

    def __init__(self) -> None:
        self.model: Any = None
        self.config: Any = None
        self.vae: Any = None
        self.text_encoder: Any = None
        self.text_tokenizer: Any = None
        self.mlx_decoder: Any = None
        self.use_mlx_dit = False
        self.precision = "float32"
        self.precision_note: str | None = None
        self.device = "cpu"
        self.low_memory_note = ""  # a sentence where the parts are loaded when they are needed
        self.lock = threading.Lock()
