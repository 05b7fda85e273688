"""The exact method: the best assignment, proven; outer approximation and column generation."""

from code_opt.exact.exchange import export_model, import_paths
from code_opt.exact.method import build_model, choose_formulation, solve_exact

__all__ = ["build_model", "choose_formulation", "export_model", "import_paths", "solve_exact"]
