"""The tolerances of planning: one scale, three steps, each far inside the next.

``NOISE`` is rounding alone. A load is a sum of fewer than 4,000 products in double precision,
which is off by less than 4,000 * 2.2e-16 < 1e-12 of the sum. So a load is taken to fit a
capacity if it exceeds it by at most ``NOISE`` of the load or of the capacity, whichever is
larger; what exceeds it by more needs a unit more. One rule counts units by this
(:meth:`code_opt.planning.offers.Offers.units_for`), and everything else follows it: the bound
N[i] of the program, its rows, which are relaxed by ``NOISE``, the heuristic and the units
that are reported.

``ROW`` is what a solver may miss a row of the program by. It is an absolute number, so every
row is scaled such that it means the same share everywhere: rows of capacities are divided by
the largest load that any choice of paths can cause (at least the capacity), rows of memory
and accuracy are shares already. Where rates adapt, loads are what the capacity allows, however
much is asked for: these rows stay shares of the present capacity.

The solver may thus believe in a plan that lacks a unit by up to ``ROW`` of a load. The units of
every plan are counted anew by the rule above; where the solver was wrong, a cut tells it
(:mod:`code_opt.planning.programs`).

``TOLERANCE`` of :mod:`code_opt.result` is what the independent checkers forgive.
"""

from __future__ import annotations

NOISE = 1e-12
"""Rounding of a sum, relative to it."""
ROW = 1e-8
"""Tolerance of a solver on the rows of a planning program, which are at most about 1.

The tightest that HiGHS is asked for (:mod:`code_opt.solvers.highs`)."""
