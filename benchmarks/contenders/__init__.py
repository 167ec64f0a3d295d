"""What is measured: each module has a `run(turns, shape, data, **options)` that takes training steps when it is asked to.

A module imports nothing but what its own interpreter has: peers may live in another environment than Treino.
"""
