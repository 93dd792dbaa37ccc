#!/usr/bin/env python3
"""Checks that scripts/hit-weights.py moves a model of the original HIT trainer into ibhost with all its numbers in place.

    scripts/test-hit-weights.py target/release/ibhost FOLDER_WITH_mnist

builds HVAE and LVAE in PyTorch with the original's layer names and random weights, stores them as its trainer does (config.json, vae.pth),
converts them, runs the command the converter prints, and compares R(z) and the reconstructions' PSNR on 500 test images.
Needs torch, safetensors and numpy.
"""

import gzip
import json
import math
import pathlib
import shlex
import subprocess
import sys
import tempfile

import numpy
import torch
from torch import nn
from torch.nn.functional import softplus

CHANNELS, CODE, IMAGES = 8, 6, 500
CONVERTER = pathlib.Path(__file__).parent / "hit-weights.py"


class Vae(nn.Module):
    """28x28 images, a row as z, a map as y; reconstructions go through the mean codes."""

    def __init__(self, kind):
        super().__init__()
        c, z, features = CHANNELS, CODE, 16 * CHANNELS
        self.kind = kind
        down = lambda i: nn.Conv2d(i, c, 4, 2, 1)
        trim = lambda i: nn.Conv2d(i, c, 4)
        up = lambda o: nn.ConvTranspose2d(c, o, 4, 2, 1)
        self.qz_conv1, self.qz_conv3 = down(1), trim(c)
        self.qz_mu, self.qz_pre_sp = nn.Linear(features, z), nn.Linear(features, z)
        self.qy_mu, self.qy_pre_sp = nn.Conv2d(c, c, 3, 1, 1), nn.Conv2d(c, c, 3, 1, 1)
        self.py_l1 = nn.Linear(z, features // 2)
        self.py_mu, self.py_pre_sp = nn.Linear(features // 2, features), nn.Linear(features // 2, features)
        self.px_conv1 = nn.ConvTranspose2d(c, c, 4)
        if kind == "HVAE":
            self.qz_conv2, self.qy_conv1_x, self.qy_conv2_x = down(c), down(1), down(c)
            self.qy_l1_z, self.qy_conv1_z, self.qy_conv1_zx = nn.Linear(z, features), nn.ConvTranspose2d(c, c, 4), trim(2 * c)
            self.px_convs = nn.Sequential(up(c), nn.ReLU(), up(1))
        else:
            self.qz_conv2_dy, self.qy_conv1_dy, self.px_conv2, self.px_conv3 = down(c), trim(c), up(c), up(1)

    def forward(self, x):
        """R(z) of each image, and the reconstructions."""
        first = self.qz_conv1(x).relu()
        second = (self.qz_conv2 if self.kind == "HVAE" else self.qz_conv2_dy)(first).relu()
        top = self.qz_conv3(second).relu().flatten(1)
        z, std = self.qz_mu(top), softplus(self.qz_pre_sp(top))
        rate = (-std.log() + (std**2 + z**2) / 2 - 0.5).sum(1)
        if self.kind == "HVAE":
            image = self.qy_conv2_x(self.qy_conv1_x(x).relu()).relu()
            code = self.qy_conv1_z(self.qy_l1_z(z).relu().view(-1, CHANNELS, 4, 4)).relu()
            y = self.qy_mu(self.qy_conv1_zx(torch.cat([code, image], 1)).relu())
            pixels = self.px_convs(self.px_conv1(y).relu())
        else:
            maps = lambda rows: rows.view(-1, CHANNELS, 4, 4)
            prior = self.py_l1(z).relu()
            prior_mean, prior_variance = maps(self.py_mu(prior)), maps(softplus(self.py_pre_sp(prior))) ** 2
            estimate = self.qy_conv1_dy(second).relu()
            mean, variance = self.qy_mu(estimate), softplus(self.qy_pre_sp(estimate))
            y = (mean * prior_variance + prior_mean * variance) / (variance + prior_variance)
            pixels = self.px_conv3(self.px_conv2(self.px_conv1(y).relu()).relu())
        return rate, pixels.sigmoid()


def config(kind):
    return {
        "vae_type": kind, "no_warmup": False, "dataset": "BinaryMNIST", "use_conv_z": False, "qz_family": "DiagonalGaussian",
        "px_y_family_ll": "Bernoulli", "batch_size": 256, "conv_channels": CHANNELS, "z_dims": CODE, "sigma": 0.03,
        "linear_y_with_dims": -1, "beta_y": 1.0, "beta_z": 1.0,
    }


def images(data):
    raw = gzip.open(data / "mnist" / "t10k-images-idx3-ubyte.gz").read()
    pixels = numpy.frombuffer(raw, numpy.uint8, offset=16).reshape(-1, 1, 28, 28)[:IMAGES]
    return torch.tensor((pixels >= 128).astype("float32"))


def measured(ibhost, folder, data):
    """R(z) and PSNR by ibhost of the converted model in `folder`."""
    weights = folder / "vae.safetensors"
    done = subprocess.run([sys.executable, CONVERTER, folder, weights], check=True, capture_output=True, text=True)
    places = ["--data-dir", data, "--output-dir", folder / "runs", "--limit-train", "256", "-q"]
    subprocess.run([ibhost, *shlex.split(done.stdout)[1:], *places], check=True, stdout=subprocess.DEVNULL)
    (run,) = (folder / "runs").iterdir()
    analyses = ["--analysis", f"rates/points:{IMAGES}", "--analysis", f"psnr/points:{IMAGES}", "--data-dir", data]
    subprocess.run([ibhost, "analyze", run, *analyses], check=True, stdout=subprocess.DEVNULL)
    # With a number of points that is not the default, the names of the files end in a hash.
    result = lambda name: json.loads(next((run / "analyses").glob(f"{name}-*.json")).read_text())["result"]
    return result("rates")["levels"][1]["rate"], result("psnr")["psnr"]


def main(ibhost, data):
    x = images(data)
    for kind in ("HVAE", "LVAE"):
        torch.manual_seed(3)
        model = Vae(kind)
        with torch.no_grad():
            # Larger weights than those of the initialisation leave no part of the network without effect.
            for parameter in model.parameters():
                parameter.mul_(2)
            rate, made = model(x)
        expected = rate.mean().item(), 10 * math.log10(1 / ((made - x) ** 2).mean().item())
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            (folder / "config.json").write_text(json.dumps(config(kind)))
            torch.save(model.state_dict(), folder / "vae.pth")
            found = measured(ibhost, folder, data)
        for what, theirs, ours in zip(("R(z)", "PSNR"), expected, found):
            print(f"{kind} {what}: PyTorch {theirs:.5f}, ibhost {ours:.5f}")
            if abs(theirs - ours) > 1e-4 * abs(theirs):
                sys.exit(f"{kind}: {what} differs")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1], pathlib.Path(sys.argv[2]))
