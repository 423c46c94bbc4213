"""The MLX side of LEGO: decoder, weight conversion, guidance, schedule and loop."""

from functools import cache


@cache
def why_mlx_is_unavailable() -> str | None:
    """None where mlx can compute on this machine, else the reason in a few words.

    Apple's GPU is not a condition: mlx computes on Linux CPUs and on NVIDIA GPUs as well.
    """
    try:
        import mlx.core as mx

        mx.eval(mx.ones(2) + 1)
    except Exception as error:  # an import or driver failure, whatever its type, is the answer asked for
        return f"{type(error).__name__}: {error}"
    return None


def mlx_available() -> bool:
    """True wherever mlx can be imported and can compute."""
    return why_mlx_is_unavailable() is None
