"""Small source trees with upstream's public interface, written for these tests; what a tree does wrong is chosen.

The decoder is `velocity = hidden_states + t`, on MLX and again as what a run takes for PyTorch's.
"""

import json
from pathlib import Path

MLX = """
import platform

def is_mlx_available():
    return platform.system() == "Darwin"

def mlx_available():
    return is_mlx_available()
"""

INFERENCE = """
import json
import os
from dataclasses import asdict, dataclass, field
from typing import Any

from acestep.handler import HABITS

@dataclass
class GenerationParams:
    task_type: str = "text2music"
    instruction: str = "text2music"
    src_audio: Any = None
    inference_steps: int = 8
    guidance_scale: float = 7.0
    shift: float = 1.0
    thinking: bool = True
    use_cot_metas: bool = True
    dcw_enabled: bool = True

@dataclass
class GenerationConfig:
    batch_size: int = 2
    use_random_seed: bool = True
    seeds: Any = None

@dataclass
class GenerationResult:
    audios: list = field(default_factory=list)
    extra_outputs: dict = field(default_factory=dict)
    success: bool = True
    error: Any = None

def generate_music(dit_handler, llm_handler, params, config, save_dir=None):
    with open("received.json", "w") as file:
        json.dump({"params": asdict(params), "config": asdict(config), "environment": dict(os.environ)}, file)
    if HABITS.get("refuses"):
        return GenerationResult(success=False, error=HABITS["refuses"])
    if HABITS.get("asks_for") and params.thinking and llm_handler is not None:
        llm_handler.generate_with_stop_condition(
            infer_type=HABITS["asks_for"], use_cot_metas=params.use_cot_metas, use_constrained_decoding=True
        )
    options = {
        "dcw_enabled": params.dcw_enabled,
    }
    return GenerationResult(**dit_handler.generate(params, config, **options))
"""

HANDLER = """
import json
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import mlx.core as mx

ROOT = Path(__file__).parent.parent
HABITS = json.loads((ROOT / "acestep" / "habits.json").read_text())
for module in HABITS.get("imports", ()):
    getattr(__import__(module), HABITS.get("uses", "__name__"))

def velocity(hidden_states, timestep, timestep_r, encoder_hidden_states, context_latents, **_):
    return hidden_states + timestep[:, None, None]

class Inner:
    def __call__(self, hidden_states, timestep, **inputs):
        return velocity(hidden_states, timestep, **inputs)

COMPUTED_BY = HABITS.get("computed_by", [])  # what computes the velocity of the first run, of the second and so on

def trace():
    import torch
    inputs = (torch.zeros(1, 6, 2), torch.zeros(1, 1, 1))
    return torch.jit.trace(lambda x, t: x @ torch.eye(2) + t, inputs)

def computed_elsewhere(by, latents, t):
    import ctypes, subprocess, sys, threading
    import numpy as np
    x, t = np.array(latents), np.array(t)[:, None, None]
    if by == "numpy":
        return x @ np.eye(2, dtype=np.float32) + t
    if by == "program":
        code = "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read())"
        bytes_of_x = subprocess.run([sys.executable, "-c", code], input=x.tobytes(), capture_output=True).stdout
        return np.frombuffer(bytes_of_x, np.float32).reshape(x.shape) + t
    if by == "ctypes":
        copy = np.empty_like(x)
        ctypes.memmove(copy.ctypes.data, np.ascontiguousarray(x).ctypes.data, x.nbytes)
        return copy + t
    import torch

    def plain(x, t):
        return x @ torch.eye(2) + t

    x, t = torch.from_numpy(x), torch.from_numpy(t)
    if by == "torch.jit":
        return MLXDecoder.traced(x, t).numpy()
    if by == "torch.compile":
        return torch.compile(plain, backend="eager")(x, t).numpy()
    results = []
    thread = threading.Thread(target=lambda: results.append(plain(x, t).numpy()))
    thread.start()
    thread.join()
    return results[0]

class MLXDecoder:
    scale, run = 1.0, -1

    def __init__(self):
        self.inner = Inner()

    def __call__(self, cache=None, use_cache=True, **inputs):
        velocity = self.inner(**inputs)
        by = COMPUTED_BY[MLXDecoder.run] if COMPUTED_BY else "mlx"
        if by == "mlx beside torch":
            import torch
            torch.ones(1, 1) @ torch.ones(1, 1)
        elif by != "mlx":
            found = computed_elsewhere(by, inputs["hidden_states"], inputs["timestep"])
            velocity = mx.array(found) * self.scale
        return velocity, cache

class TorchDecoder:
    def __init__(self):
        self.before, self.after = [], []

    def register_forward_pre_hook(self, hook, with_kwargs):
        self.before.append(hook)

    def register_forward_hook(self, hook, with_kwargs):
        self.after.append(hook)

    def __call__(self, **inputs):
        for hook in self.before:
            hook(self, (), inputs)
        result = self.forward(**inputs)
        for hook in self.after:
            hook(self, (), inputs, result)
        return result

    def forward(self, **inputs):
        return velocity(**inputs)

class Tokenizer:
    def __call__(self, text):
        return text.split()

class AceStepHandler:
    stored, text_tokenizer = None, Tokenizer()

    def initialize_service(self, project_root, config_path="acestep-v15-base", device="auto", use_mlx_dit=True):
        from acestep.models.mlx import mlx_available

        if HABITS.get("writes"):
            (ROOT / ".cache").mkdir()
            (ROOT / "acestep" / "handler.py").write_text("overwritten")
            checkpoint = Path(project_root) / "checkpoints" / config_path
            (checkpoint / "modeling.py").write_text("overwritten")
            (checkpoint / "new.py").write_text("new")
        if HABITS.get("calls_home"):
            import urllib.request
            urllib.request.urlopen("http://127.0.0.1:9")
        if HABITS.get("loads_not"):
            return HABITS["loads_not"], False
        active = use_mlx_dit and mlx_available() and not HABITS.get("inactive")
        if HABITS.get("inactive"):
            from loguru import logger
            logger.warning(HABITS["inactive"])
        self.mlx_decoder = MLXDecoder() if active else None
        self.model = SimpleNamespace(decoder=TorchDecoder(), null_condition_emb=mx.zeros((1, 1, 3)))
        self.device = device
        self.use_mlx_vae = active
        return "all is loaded" + ("; MLX DiT: Active (native MLX)" if active else "; MLX DiT: Unavailable"), True

    def generate_instruction(self, task_type, track_name=None):
        return f"{task_type} of {track_name}"

    def is_turbo_model(self):
        return False

    def _mlx_run_diffusion(self, noise, states, context, schedule, dcw_enabled=False):
        in_thread = threading.current_thread() is not threading.main_thread()
        if HABITS.get("mlx_fails") or (in_thread and HABITS.get("fails_in_threads")):
            raise RuntimeError("There is no Stream in this thread.\\nAnd more lines.")
        return self.loop(self.step(), noise, states, context, schedule, dcw_enabled)

    def step(self):
        def step(xt, t, states, context):
            inputs = dict(
                hidden_states=xt, timestep=t, timestep_r=t, encoder_hidden_states=states, context_latents=context
            )
            for _ in range(HABITS.get("hidden_evaluations", 0)):
                self.mlx_decoder.inner(**inputs)
            if HABITS.get("twice"):
                return (self.mlx_decoder(**inputs)[0] + self.mlx_decoder(**inputs)[0]) / 2
            return self.mlx_decoder(**inputs)[0]
        return mx.compile(step) if HABITS.get("compiles") else step

    def loop(self, step, x, states, context, schedule, dcw_enabled=False):
        for t, after in zip(schedule, schedule[1:] + [0.0]):
            x = x - step(x, mx.full((x.shape[0],), t), states, context) * (t - after)
            x = 1.5 * x if dcw_enabled else x
            mx.eval(x)
            time.sleep(self.seconds_a_step)
        return x

    def tiled_decode(self, latents):
        return mx.array([[[0.5, -2.0, 0.5, 1.0], [0.5, 0.5, -0.5, 0.0]]])

    def generate(self, params, config, dcw_enabled):
        MLXDecoder.run += 1
        if COMPUTED_BY[MLXDecoder.run:][:1] == ["torch.jit"]:
            MLXDecoder.traced = trace()
        options = {"dcw_enabled": dcw_enabled} if HABITS.get("corrects") else {}
        steps = HABITS.get("always") or params.inference_steps
        schedule = [1.0 - i / steps for i in range(steps)]
        if HABITS.get("stores") and self.stored is not None:
            return self.stored
        if HABITS.get("tokenizes"):
            self.text_tokenizer(HABITS["tokenizes"])
        seed = HABITS.get("seed", config.seeds[0])
        noise = mx.random.normal((1, 6, 2), key=mx.random.key(seed))
        if HABITS.get("short_for") and HABITS["short_for"] in params.instruction:
            schedule = schedule[:-1]
        slow = HABITS.get("slow_for", "") in params.instruction
        self.seconds_a_step = HABITS.get("seconds_a_step", 0) if slow else 0
        states, context = mx.ones((1, 4, 3)), mx.arange(24).reshape(1, 6, 4)
        time_costs = {"dit_diffusion_per_step_time_cost": 0.25, "dit_sampler_mode": "euler"}
        inputs = (noise, states, context, schedule)
        decoder = self.model.decoder
        if HABITS.get("hides_torch"):
            decoder = TorchDecoder()

        def on_torch():
            time_costs["dit_encoder_time_cost"] = 1.0
            def step(xt, t, states, context):
                return decoder(
                    hidden_states=xt, timestep=t, timestep_r=t, encoder_hidden_states=states, context_latents=context
                )
            return self.loop(step, *inputs)

        if self.mlx_decoder is None:
            latents = on_torch()
        else:
            try:
                latents = self._mlx_run_diffusion(*inputs, **options)
                if HABITS.get("hides_torch"):
                    latents = on_torch()
            except Exception:
                latents = on_torch()
        wave = self.tiled_decode(latents)
        sound = wave[0] / 2
        mx.eval(sound)
        stem = {"tensor": sound, "sample_rate": 48000, "path": ""}
        outputs = {"pred_latents": latents, "target_latents": mx.zeros((1, 6, 2)), "time_costs": time_costs}
        self.stored = {"audios": [stem], "extra_outputs": outputs}
        return self.stored

if HABITS.get("precise"):
    class PreciseHandler(AceStepHandler):
        def initialize_service(self, *args, mlx_precision, **kwargs):
            self.precision = "float32" if mlx_precision == "auto" else mlx_precision
            return super().initialize_service(*args, **kwargs)

    AceStepHandler = PreciseHandler
"""

LOGURU = """
class logger:
    sinks = []

    @classmethod
    def remove(cls):
        cls.sinks = []

    @classmethod
    def add(cls, sink, level, format):
        cls.sinks.append(sink)

    @classmethod
    def warning(cls, text):
        for sink in cls.sinks:
            sink(text + "\\n")
"""


def write_checkout(root: Path, **habits: object) -> Path:
    """Writes a tree below `root` and returns `root`; what is not among `habits`, it does right."""
    files = {
        "acestep/__init__.py": "",
        "acestep/handler.py": HANDLER,
        "acestep/inference.py": INFERENCE,
        "acestep/models/__init__.py": "",
        "acestep/models/mlx/__init__.py": MLX,
        "acestep/models/base/configuration_stand_in.py": "",
        "acestep/models/base/modeling_stand_in.py": f"import math, {habits.get('model_imports', 'json')}\n",
        "loguru.py": LOGURU,
        "acestep/habits.json": json.dumps(habits),
    }
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root
