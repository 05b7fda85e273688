"""Real networks: cut into blocks, counted, trained, measured.

The only layer that imports torch (extra ``networks``). Import it before torchvision, or before a
package that imports torchvision: where torchvision's compiled operators cannot be loaded, its own
import fails unless :mod:`code_opt.networks.compat` came first.
"""

import code_opt.networks.compat  # noqa: F401  see above
