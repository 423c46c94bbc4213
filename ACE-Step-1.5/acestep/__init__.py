"""ACE-Step 1.5's LEGO task on MLX, written for this project; see the README beside this package."""
