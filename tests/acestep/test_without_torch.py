"""A stem on MLX where PyTorch, diffusers and transformers are not installed."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from acestep.stems import Stem
from tests.parity_helper import assert_equal

PROGRAM = """
import json, sys
from acestep.handler import AceStepHandler
from acestep.inference import GenerationConfig, GenerationParams, generate_music

handler = AceStepHandler()
message, loaded = handler.initialize_service(sys.argv[1], device="cpu")
assert loaded, message
instruction = handler.generate_instruction("lego", "vocals")
params = GenerationParams(src_audio=sys.argv[2], instruction=instruction, guidance_scale=4.0, inference_steps=2)
result = generate_music(handler, None, params, GenerationConfig(use_random_seed=False, seeds=[1]), sys.argv[3])
assert result.success, result.error
message, _ = AceStepHandler().initialize_service(sys.argv[1], device="cpu", use_mlx_dit=False)
print(json.dumps({"path": result.audios[0]["path"], "torch": message}))
"""


def test_stem_without_them(
    tiny_root: Callable[..., Path],
    make_context: Callable[..., Path],
    environment_without_torch: dict[str, str],
    tmp_path: Path,
) -> None:
    arguments = [str(tiny_root()), str(make_context(1.0)), str(tmp_path)]
    root = str(Path(__file__).parents[2] / "ACE-Step-1.5")
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env={
            **environment_without_torch,
            "PYTHONPATH": os.pathsep.join([root, environment_without_torch["PYTHONPATH"]]),
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    samples, rate = soundfile.read(told["path"])
    assert (len(samples), rate) == (48_000, 48_000)
    assert np.abs(samples).max() > 0.5
    assert told["torch"].startswith(
        "PyTorch was chosen with use_mlx_dit=False, but torch, diffusers, transformers "
    )


def test_tensor_is_made_where_it_is_asked_for() -> None:
    stem = Stem(audio=np.ones((2, 3), dtype=np.float32))
    assert "tensor" not in list(stem)
    assert isinstance(stem["tensor"], torch.Tensor)
    assert_equal(stem["tensor"], stem["audio"])
    assert Stem(audio=stem["audio"]).get("tensor") is not None
    with pytest.raises(KeyError, match="other"):
        stem["other"]
