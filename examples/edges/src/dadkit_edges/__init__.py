"""One term of the training loss. This module only names it: importing it loads no torch."""

import dadkit


@dadkit.hookimpl
def register_terms(register):
    register("gradient", "dadkit_edges.term:EdgeGradient", api=1, summary="gradients, weighed at edges by a learned weight")
