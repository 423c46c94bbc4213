"""Upstream's names in the three files, and the two values that the patches pass through them."""

RUN = "_mlx_run_diffusion"
GENERATE = "mlx_generate_diffusion"
SCHEDULE = "get_timestep_schedule"

STEPS_PARAMETER = "infer_steps: int = 8"
STEPS_ARGUMENT = "infer_steps=infer_steps"
KIND_PARAMETER = "is_turbo: bool = True"
KIND_ARGUMENT = "is_turbo=is_turbo"
