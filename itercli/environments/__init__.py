"""Text environments behind one protocol, and the pool of live ones that searches and rollouts share."""
