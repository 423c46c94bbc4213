"""Upstream's names at the three sites, and the two values that the patches thread through them."""

BUILD = "_build_service_generate_kwargs"
RUN = "_mlx_run_diffusion"
GENERATE = "mlx_generate_diffusion"
SCHEDULE = "get_timestep_schedule"

STEPS_PARAMETER = "infer_steps: int = 8"
STEPS_ARGUMENT = "infer_steps=infer_steps"
KIND_PARAMETER = "is_turbo: bool = True"
KIND_ARGUMENT = "is_turbo=is_turbo"
