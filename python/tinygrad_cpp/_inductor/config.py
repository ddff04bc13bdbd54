"""Settings that can be written and read; they have no effect here."""

from types import SimpleNamespace

coordinate_descent_tuning = False
epilogue_fusion = True
fx_graph_cache = True
max_autotune = False
max_autotune_gemm_backends = "ATEN"
triton = SimpleNamespace(unique_kernel_names=False, cudagraphs=False, cudagraph_trees=True)
