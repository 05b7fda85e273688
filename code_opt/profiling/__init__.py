"""From networks and images to an instance: adapters trained, paths measured, drops fitted."""
