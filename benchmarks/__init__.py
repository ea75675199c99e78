"""What things cost: each benchmark prints a ratio to a reference measured in the same run.

``python -m benchmarks.NAME`` in the checkout.
"""
