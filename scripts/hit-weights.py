#!/usr/bin/env python3
"""Converts a run of the original HIT trainer (config.json, vae.pth) for ibhost.

    scripts/hit-weights.py runs/singles/NAME vae.safetensors

writes the weights in the safetensors format under their own names and prints the ibhost command whose model they belong to.
Needs torch and safetensors (pip install torch safetensors).
"""

import argparse
import json
import pathlib
import shlex

PIXELS = {
    "GaussianFixedSigma": "gaussian_fixed_sigma",
    "GaussianLearnedSigma": "gaussian_learned_sigma",
    "Bernoulli": "bernoulli",
    "MoL": "mixture_of_logistics",
}
DATA = {"BinaryMNIST": "binary_mnist", "MNIST": "mnist/scale:unit", "CIFAR10": "cifar10/scale:unit", "SVHN": "svhn"}


def component(name, parameters):
    """name/key:value|... of the parameters that are there."""
    text = "|".join(f"{key}:{value}" for key, value in parameters if value is not None)
    return f"{name}/{text}" if text else name


def command(config, weights):
    """The arguments of the run that starts from the weights and takes one step too small to move them."""
    kind = config["vae_type"].lower()
    if kind not in ("hvae", "lvae"):
        raise SystemExit(f"vae_type {config['vae_type']!r} is not HVAE or LVAE")
    channels = config["conv_channels"]
    maps = "true" if config.get("use_conv_z") or config["dataset"] == "ImageNet" else None
    row = config.get("linear_y_with_dims", -1)
    row = row if row > 0 else None
    gumbel = "gumbel_softmax" if config["qz_family"] == "GumbelSoftmax" else None
    pixels = PIXELS[config["px_y_family_ll"]]
    encoder = component(kind, [("c", channels), ("z", None if maps else config["z_dims"]), ("y", row), ("conv_z", maps), ("qz", gumbel)])
    sigma = config["sigma"] if pixels == "gaussian_fixed_sigma" else None
    linear = "true" if row else None
    decoder = component(kind, [("c", channels), ("linear_y", linear), ("conv_z", maps), ("px", pixels), ("sigma", sigma)])
    warmup = 0 if kind == "lvae" and config.get("no_warmup") else None
    objective = component("hit", [("beta_y", config["beta_y"]), ("beta_z", config["beta_z"]), ("warmup", warmup)])
    data = DATA.get(config["dataset"])
    if data is None:
        raise SystemExit(f"data set {config['dataset']!r} is not one ibhost reads; write the --dataset yourself")
    arguments = ["ibhost", "run", "--objective", objective, "--encoder", encoder, "--decoder", decoder, "--dataset", data]
    arguments += ["--batch-size", str(config["batch_size"]), "--set", f"initial_weights={weights}", "--steps", "1", "--lr", "1e-30"]
    return shlex.join(arguments)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=pathlib.Path, help="folder with config.json and vae.pth")
    parser.add_argument("output", type=pathlib.Path, help="file to write, e.g. vae.safetensors")
    arguments = parser.parse_args()
    import torch
    from safetensors.torch import save_file

    config = json.loads((arguments.run / "config.json").read_text())
    state = torch.load(arguments.run / "vae.pth", map_location="cpu", weights_only=True)
    state = state.get("state_dict", state)
    save_file({name: tensor.float().contiguous() for name, tensor in state.items()}, arguments.output)
    print(command(config, arguments.output))


if __name__ == "__main__":
    main()
