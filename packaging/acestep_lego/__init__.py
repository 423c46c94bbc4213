"""What `pip install` adds for making stems: the command `acestep-lego`.

An installed copy holds the scripts and the fork as the repository has them. The fork's package `acestep` is not put on
anybody's import path: it would hide upstream's, which has the same name.
"""
