"""Source databases read directly, for checks: nothing here writes to one, and no stage needs one."""
