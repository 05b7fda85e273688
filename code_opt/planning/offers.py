"""What can be bought of the resources of a column table, as arrays beside it."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from code_opt.paths.graph import FloatArray
from code_opt.paths.resources import SERVER_TIME, Resource
from code_opt.planning.settings import check_amounts
from code_opt.planning.tolerances import NOISE


@dataclass(frozen=True)
class Offers:
    """What can be bought of I resources, in shares of what their uses are counted in."""

    present: FloatArray
    """Capacity without any unit: at first 1, or 0 where nothing is there yet; inf where nothing is
    limited; shape (I,)."""
    unit: FloatArray
    """Size of one unit, 0 where none is sold; shape (I,)."""
    purchase: FloatArray
    """Price of one unit when it is bought, shape (I,)."""
    sold: FloatArray
    """Most units that are sold, inf where unlimited, 0 where none is sold; shape (I,)."""
    yearly: FloatArray
    """Price of one unit in each year that it stands, that of the purchase included; shape (I,)."""

    @classmethod
    def of(cls, resources: Sequence[Resource], empty: Collection[str] = ()) -> Offers:
        """Return what is offered of some resources.

        Args:
            resources: whose capacities are what uses are shares of.
            empty: ids of servers that have no device yet, whatever their capacity here.

        Raises:
            InputError: prices are too far from each other.
        """
        present = np.array([1.0 if resource.is_limited else math.inf for resource in resources])
        present[[r.kind is SERVER_TIME and r.server in empty for r in resources]] = 0.0
        unit, price, sold, yearly = np.zeros((4, len(resources)))
        for_sale: dict[str, float] = {}
        for i, resource in enumerate(resources):
            offer = resource.offer
            if offer is not None:
                unit[i], sold[i] = offer.size / resource.capacity, offer.most
                price[i], yearly[i] = offer.price, offer.yearly
                if offer.most > 0.0:
                    for_sale[resource.name] = offer.price + offer.yearly
        check_amounts("price of a unit", for_sale)
        return cls(present, unit, price, sold, yearly)

    def units_for(self, load: FloatArray) -> FloatArray:
        """Return the least units that carry loads (inf where none is sold), shape like ``load``.

        This is the one rule: ceil((load - present) / unit), a load counting as less by the share
        ``NOISE``, which is what rounding may have added.

        Args:
            load: of the resources, shape (..., I).
        """
        excess = np.maximum(load - self.present - NOISE * np.maximum(load, self.present), 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            units = np.ceil(excess / self.unit)
        return np.where(excess > 0.0, units, 0.0)

    @cached_property
    def price(self) -> FloatArray:
        """Price of one unit and its first year, shape (I,)."""
        return self.purchase + self.yearly

    def cost(self, units: FloatArray) -> float:
        """Return the price of units and their first year, shape (I,)."""
        return float(units @ self.price)

    def spent(self, units: FloatArray) -> FloatArray:
        """Return what is paid in each period, shape (H,), not discounted.

        Args:
            units: that stand in each period, shape (H, I).
        """
        bought = np.diff(units, axis=0, prepend=0.0)
        return np.asarray(bought @ self.purchase + units @ self.yearly)

    def capacity(self, units: FloatArray) -> FloatArray:
        """Return the capacities with units, shape (I,)."""
        return self.present + np.where(self.unit > 0.0, self.unit * units, 0.0)

    def fixed(self, units: FloatArray) -> Offers:
        """Return the offers when some units, shape (I,), are bought and no more are sold."""
        nothing = np.zeros(len(units))
        return replace(self, present=self.capacity(units), unit=nothing, sold=nothing)

    @cached_property
    def largest(self) -> FloatArray:
        """The capacities with all units that are sold, inf where unlimited, shape (I,)."""
        return self.capacity(self.sold)

    @cached_property
    def price_per_capacity(self) -> FloatArray:
        """Price of capacity, 0 where none is sold, shape (I,)."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.unit > 0.0, self.price / self.unit, 0.0)
