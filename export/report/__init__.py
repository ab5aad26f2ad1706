"""The acceptance report: one HTML file that needs nothing else, from the evidence that a bundle carries."""
