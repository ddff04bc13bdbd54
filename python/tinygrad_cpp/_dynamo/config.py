"""Settings that can be written and read; they have no effect here."""

suppress_errors = False
cache_size_limit = recompile_limit = 8
verbose = False
optimize_ddp = True
capture_scalar_outputs = False
