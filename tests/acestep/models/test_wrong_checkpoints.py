"""Checkpoints that would load and make noise, or that carry code: each is refused with the file and the reason."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from acestep.errors import CheckpointError
from acestep.handler import AceStepHandler
from acestep.models.checkpoint.config import read_config, read_json
from acestep.models.checkpoint.silence import load_silence_latent
from acestep.models.checkpoint.tokenizer import load_tokenizer
from acestep.models.checkpoint.weights import (
    check_weights,
    read_float32,
    sizes_of_checkpoint,
    weight_files,
)
from acestep.models.mlx.dit_convert import convert_and_load
from acestep.models.mlx.dit_model import MLXDiTDecoder
from acestep.models.mlx.text_convert import load_mlx_text_encoder
from acestep.models.pytorch.loading import load_text_encoder
from tests.checkpoint_forms import DIT, TEXT, VAE, rewrite, rewrite_json, split_into_shards

WEIGHT = "decoder.layers.0.mlp.gate_proj.weight"


@pytest.fixture
def checkpoints(tiny_root: Callable[..., Path], tmp_path: Path) -> Path:
    """checkpoints/ that a test may change."""
    return Path(shutil.copytree(tiny_root() / "checkpoints", tmp_path / "checkpoints"))


def state(handler: AceStepHandler) -> dict[str, Any]:
    """All but the lock, which each handler has for itself."""
    return {name: value for name, value in vars(handler).items() if name != "lock"}


def refusal(checkpoints: Path) -> str:
    """Of the whole service, which stays empty."""
    handler = AceStepHandler()
    message, loaded = handler.initialize_service(checkpoints.parent, device="cpu")
    assert not loaded
    assert state(handler) == state(AceStepHandler())
    assert "\n" not in message
    return message


def refused(call: Callable[..., Any], *args: Any) -> str:
    with pytest.raises(CheckpointError) as error:
        call(*args)
    return str(error.value)


class TestCode:
    """No code of a checkpoint is run, and nobody is asked whether it may."""

    @pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
    def test_text_encoder_with_code(
        self, checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
    ) -> None:
        folder, ran, asked = checkpoints / TEXT, tmp_path / "ran", []
        code = (
            f"from pathlib import Path\nPath({str(ran)!r}).touch()\nclass Config: pass\nclass Tokens: pass\n"
        )
        (folder / "own_code.py").write_text(code)
        auto_map = {
            "AutoConfig": "own_code.Config",
            "AutoModel": "own_code.Config",
            "AutoTokenizer": ["own_code.Tokens", None],
        }
        changes = {"model_type": "unknown"} if file == "config.json" else {"tokenizer_class": "Tokens"}
        rewrite_json(folder / file, auto_map=auto_map, **changes)

        def answer(*text: str) -> str:
            asked.append(text)
            return "y"

        monkeypatch.setattr("builtins.input", answer)
        _, loaded = AceStepHandler().initialize_service(checkpoints.parent, device="cpu")
        assert loaded == (file == "tokenizer_config.json"), "tokenizer.json needs no class of its own"
        assert not asked
        assert not ran.exists()

    def test_model_type_is_named(self, checkpoints: Path) -> None:
        path = checkpoints / TEXT / "config.json"
        rewrite_json(path, model_type="bert")
        assert refusal(checkpoints) == (
            f"{path}: 'model_type' is 'bert', expected 'qwen3'; give the text encoder of the same checkpoint"
        )


class TestWeights:
    """Stored as numbers of the model, whole and finite, each once."""

    @pytest.mark.parametrize(
        ("dtype", "name"),
        [
            (torch.int8, "I8"),
            (torch.int32, "I32"),
            (torch.bool, "BOOL"),
            (torch.float8_e4m3fn, "F8_E4M3"),
            (torch.float64, "F64"),
        ],
    )
    def test_one_matrix_of_another_kind(self, checkpoints: Path, dtype: torch.dtype, name: str) -> None:
        path = checkpoints / DIT / "model.safetensors"
        rewrite(path, lambda tensors: tensors.update({WEIGHT: tensors[WEIGHT].to(dtype)}))
        config = read_config(path.parent)
        for sentence in (
            refused(check_weights, path),
            refused(read_float32, path.parent, ("decoder.",)),
            refused(convert_and_load, path.parent, MLXDiTDecoder.from_config(config)),
        ):
            assert sentence == (
                f"{path}: weight '{WEIGHT}' is stored as {name}, expected F32, F16, BF16; "
                "give a checkpoint that is not quantised"
            )

    @pytest.mark.parametrize(
        ("file", "key"),
        [
            (f"{DIT}/model.safetensors", WEIGHT),
            (f"{VAE}/diffusion_pytorch_model.safetensors", "decoder.conv1.weight_v"),
            (f"{TEXT}/model.safetensors", "norm.weight"),
        ],
        ids=["dit", "vae", "text_encoder"],
    )
    def test_every_part_is_looked_at(self, checkpoints: Path, file: str, key: str) -> None:
        def damage(tensors: dict[str, torch.Tensor]) -> None:
            tensors[key].view(-1)[-1] = torch.nan

        rewrite(checkpoints / file, damage)
        assert refusal(checkpoints) == (
            f"{checkpoints / file}: weight '{key}' holds NaN or infinite values; copy the checkpoint again"
        )

    @pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf], ids=str)
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
    def test_values_that_are_not_finite(self, tmp_path: Path, value: float, dtype: torch.dtype) -> None:
        path, tensor = tmp_path / "model.safetensors", torch.zeros(3, 5, dtype=dtype)
        tensor[1, 2] = value
        save_file({"a": tensor}, path)
        assert refused(check_weights, path) == (
            f"{path}: weight 'a' holds NaN or infinite values; copy the checkpoint again"
        )

    def test_matrix_of_zeros(self, tmp_path: Path) -> None:
        path = tmp_path / "model.safetensors"
        save_file({"a": torch.zeros(2, 3)}, path)
        assert (
            refused(check_weights, path)
            == f"{path}: weight 'a' is zero throughout; copy the checkpoint again"
        )
        save_file({"a": torch.zeros(1, 3)}, path)
        check_weights(path)  # a bias may be zero

    def test_parts_that_lego_does_not_read_may_hold_anything(self, tmp_path: Path) -> None:
        save_file({"tokenizer.levels": torch.tensor([8, 5])}, tmp_path / "model.safetensors")
        check_weights(tmp_path / "model.safetensors")

    def test_half_precision_that_overflows(self, checkpoints: Path) -> None:
        """bfloat16 holds values that float16 does not."""
        dit = checkpoints / DIT
        rewrite(dit / "model.safetensors", lambda tensors: tensors[WEIGHT].view(-1)[:1].fill_(1e5))
        decoder = MLXDiTDecoder.from_config(read_config(dit))
        convert_and_load(dit, decoder)
        assert "holds NaN or infinite values as mlx.core.float16; load it in float32" in refused(
            convert_and_load, dit, decoder, "float16"
        )

    def test_single_file_beside_shards(self, checkpoints: Path) -> None:
        dit = checkpoints / DIT
        single = (dit / "model.safetensors").read_bytes()
        split_into_shards(dit, 2)
        (dit / "model.safetensors").write_bytes(single)
        assert refused(weight_files, dit) == (
            f"{dit} has both model.safetensors and model.safetensors.index.json; "
            "remove the one that is not this model's"
        )

    def test_key_in_two_shards(self, checkpoints: Path) -> None:
        dit = checkpoints / DIT
        split_into_shards(dit, 2)
        first, second = sorted(dit.glob("*.safetensors"))
        key = next(iter(load_file(first)))
        rewrite(second, lambda tensors: tensors.update({key: torch.ones(2)}))
        assert refused(sizes_of_checkpoint, dit) == (
            f"{second} holds weights that another file of the checkpoint holds too: 1 repeated ({key}); "
            "copy the checkpoint again"
        )


class TestSilence:
    """silence_latent.pt: any tensor can be in it."""

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            (lambda t: t.to(torch.int32), "it asks for torch.IntStorage"),
            (lambda t: t.to(torch.complex64), "it asks for torch.ComplexFloatStorage"),
            (lambda t: t.to_sparse(), "it asks for torch._utils._rebuild_sparse_tensor"),
            (
                lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8),
                "it asks for torch._utils._rebuild_qtensor",
            ),
            (lambda t: t.to("meta"), "it asks for torch._utils._rebuild_meta_tensor_no_storage"),
        ],
        ids=["int32", "complex", "sparse", "quantised", "meta"],
    )
    def test_other_kinds(self, checkpoints: Path, change: Any, reason: str) -> None:
        dit = checkpoints / DIT
        path = dit / "silence_latent.pt"
        torch.save(change(torch.load(path, weights_only=True)), path)
        assert refused(load_silence_latent, dit, read_config(dit)) == (
            f"{path} holds something else than a tensor of floating-point numbers ({reason}); copy the checkpoint again"
        )

    @pytest.mark.parametrize("value", [0.0, torch.nan], ids=["zero", "nan"])
    def test_values(self, checkpoints: Path, value: float) -> None:
        dit = checkpoints / DIT
        torch.save(torch.full((1, 8, 750), value), dit / "silence_latent.pt")
        assert refused(load_silence_latent, dit, read_config(dit)).startswith(f"{dit / 'silence_latent.pt'} ")

    def test_expanded_tensor_takes_no_more_memory_than_a_context_needs(self, checkpoints: Path) -> None:
        dit = checkpoints / DIT
        torch.save(torch.ones(1, 8, 1).expand(1, 8, 10**9), dit / "silence_latent.pt")
        assert load_silence_latent(dit, read_config(dit)).shape == (1, 15_000, 8)


class TestConfig:
    """What changes the model is honoured or refused."""

    @pytest.mark.parametrize(
        ("key", "value", "expected"),
        [
            ("rms_norm_eps", True, "a number above 0"),
            ("rope_theta", float("inf"), "a number above 0"),
            ("timbre_fix_frame", 1, "750"),
            ("hidden_act", "gelu", '"silu", the only one that is implemented'),
            ("use_sliding_window", False, "true, the only one that is implemented"),
            ("rope_scaling", {"type": "yarn"}, "null, the only one that is implemented"),
            ("layer_types", ["full_attention"] * 4, "one entry for each of 3 layers"),
            ("num_lyric_encoder_hidden_layers", 10**9, "at most 1000"),
            ("hidden_size", 10**12, "at most 1000000"),
        ],
        ids=lambda value: str(value)[:24],
    )
    def test_value(self, checkpoints: Path, key: str, value: Any, expected: str) -> None:
        path = checkpoints / DIT / "config.json"
        rewrite_json(path, **{key: value})
        assert refused(read_config, path.parent) == f"{path}: '{key}' is {value!r}, expected {expected}"

    def test_turbo_beside_is_turbo_false(self, checkpoints: Path) -> None:
        path = checkpoints / DIT / "config.json"
        rewrite_json(path, model_version="turbo")
        assert refused(read_config, path.parent) == (
            f"{path} says 'is_turbo' false and 'model_version' turbo; correct the one that its model card denies"
        )

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("quantization_config", {"bits": 4}),
            ("rms_norm_eps", float("nan")),
            ("num_hidden_layers", 10**9),
        ],
    )
    def test_of_a_part_that_a_library_loads(self, checkpoints: Path, key: str, value: Any) -> None:
        path = checkpoints / TEXT / "config.json"
        rewrite_json(path, **{key: value})
        config = read_config(checkpoints / DIT)
        for load in (load_text_encoder, load_mlx_text_encoder):
            assert refused(load, path.parent, config).startswith(f"{path}: '{key}' is {value!r}, ")

    @pytest.mark.parametrize(
        "text", ["[" * 10_000 + "]" * 10_000, '{"a": ' + "1" * 5000 + "}"], ids=["nested", "digits"]
    )
    def test_json_that_python_cannot_read(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "config.json").write_text(text)
        sentence = refused(read_json, tmp_path / "config.json")
        assert sentence.startswith(f"{tmp_path / 'config.json'} cannot be read as JSON (")


class TestTokenizer:
    """It fits the encoder."""

    def test_token_beyond_the_encoders(self, checkpoints: Path) -> None:
        path = checkpoints / TEXT / "tokenizer.json"
        tokenizer = json.loads(path.read_text())
        tokenizer["model"]["vocab"]["beyond"] = 5000
        path.write_text(json.dumps(tokenizer))
        sentence = refused(load_tokenizer, path.parent, 400)
        assert sentence.startswith(
            f"{path.parent}: the last token of its tokenizer is 5000, the text encoder "
        )


@pytest.mark.parametrize(
    ("arguments", "start"),
    [
        ({"project_root": None}, "project_root is None, expected a path"),
        ({"config_path": None}, "config_path is None, expected a path"),
        ({"config_path": "a\0b"}, "config_path is 'a\\x00b', expected a path"),
        ({"config_path": "x" * 300}, "checkpoint folder "),
        ({"device": ["cpu"]}, "device is ['cpu'], expected auto, cpu, mps, cuda"),
        ({"mlx_precision": []}, "mlx_precision is [], expected auto, float32, float16, bfloat16, 8bit, 4bit"),
        ({"use_mlx_dit": "no"}, "use_mlx_dit is 'no', expected True or False"),
    ],
    ids=str,
)
def test_argument_of_another_kind_is_a_sentence(
    tiny_root: Callable[..., Path], arguments: dict[str, Any], start: str
) -> None:
    handler = AceStepHandler()
    message, loaded = handler.initialize_service(
        **{"project_root": tiny_root(), "device": "cpu", **arguments}
    )
    assert not loaded
    assert message.startswith(start)
