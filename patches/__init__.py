"""Three surgical patches that make ACE-Step 1.5's MLX path take the asked-for number of steps.

`python -m patches VERB ROOT` is the way in. `check`, `diff`, `apply` and `revert` read and write text;
only `verify` runs code of a checkout, and only in a process of its own. `verify --all` looks for everything else
that LEGO is known to lose on the way (`patches.doctor`); `--series lego` closes what a few lines can close
(`patches.lego`).
"""
