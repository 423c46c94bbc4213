"""`verify ROOT --all`: one line for each known way in which a LEGO request is not what was asked for.

Every line has a module of its own here (`lines` names them in order), which runs the checkout's own code with
stand-ins for the models, in the probe process. What cannot be run on a checkout is said as such, and is neither
a defect nor fine.
"""
