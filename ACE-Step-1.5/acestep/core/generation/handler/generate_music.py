"""From a request and a context audio to stems."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from acestep.constants import SAMPLE_RATE
from acestep.errors import BackendError


@contextmanager
def mlx_run() -> Iterator[None]:
    """The stream and the memory of a run on MLX; the imports are here, for a machine without mlx."""
    from acestep.models.mlx.cpu_memory import freed_memory_kept
    from acestep.models.mlx.streams import reused_stream

    with reused_stream(), freed_memory_kept():
        yield


class GenerateMusicMixin:
    """The handler's own entry; `acestep.inference.generate_music` checks, calls this and saves."""

    model: Any

    def generate_music(self: Any, *, src_audio: str | Path, **request: Any) -> dict[str, Any]:
        """Reads the context, runs the request (`service_generate` lists its fields), decodes.

        Returns `audios` [batch, 2, samples] at 48 kHz, each as long as the context there, their `levels`, and the
        service's outputs with the time costs; arrays are numpy's, float32. Calls from several threads are queued.
        """
        if self.model is None:
            raise BackendError("no checkpoint is loaded; call initialize_service first")
        audio = self.process_target_audio(src_audio)
        with self.lock, mlx_run() if self.use_mlx_dit else nullcontext():
            outputs = self.service_generate(audio=audio, **request)
            audios, levels, seconds = self._decode_generate_music_pred_latents(
                outputs["target_latents"], samples=audio.shape[-1]
            )
        costs = {**outputs["time_costs"], "vae_decode_time_cost": seconds}
        costs["total_time_cost"] += seconds
        return {
            **outputs,
            "audios": audios,
            "levels": levels,
            "sample_rate": SAMPLE_RATE,
            "context_audio": audio,
            "time_costs": costs,
        }
