"""The words of Headgate: pure values and functions that import nothing of ours and do no I/O."""
