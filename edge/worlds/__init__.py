"""Simulated worlds for the demo, the tests and the benchmark; each stands behind the camera contract."""
