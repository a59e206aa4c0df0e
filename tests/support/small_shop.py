"""The settings of a small shop: one light encoder of random weights, one data set, both nightly."""

CONFIG = """
[encoders.small]
backbone = "torchvision/squeezenet1_0"
weights = "random:1"
input_size = 64

[nightly]
encoders = ["small"]
datasets = [{name = "shop", source = "photos"}]
"""
