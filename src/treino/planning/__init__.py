"""What a model will cost, from numbers alone: parameters, FLOPs, memory by part and time. Needs no torch."""
