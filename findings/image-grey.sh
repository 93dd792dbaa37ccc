#!/usr/bin/env bash
# image 0.25.10 (Rust) beside Pillow 12.0.0: resizing agrees to one level, turning grey does not agree at all.
#
# Seen: on a picture of random colours, bilinear, bicubic and Lanczos reduction and bilinear enlargement by `resize_exact` lie within 1 of 255 of
#   Pillow's. `to_luma8` of the same picture lies up to 32 levels from `convert("L")`, 9.9 on average: pure red is 54 in one and 76 in the
#   other, pure blue 18 and 29. One weighs the channels as Rec. 709 does, the other as Rec. 601; neither is linear light.
# Guessed: the reverse. Grey is one product and the same everywhere but for rounding; filters with their supports, edges and rounding are where
#   two libraries part.
# Matters to: whoever trains with torchvision or keras (both through Pillow's weights) and feeds the model from a Rust service, or brings a data
#   set of colours to one channel in a port: every pixel is off by what no test of shapes or ranges sees.
#
# Needs cargo, python3 (3.10 or later) and connections to the registries; exits 1 when the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir -p "$folder/port/src"
cat > "$folder/port/Cargo.toml" <<'TOML'
[package]
name = "port"
version = "0.1.0"
edition = "2021"

[dependencies]
image = { version = "=0.25.10", default-features = false, features = ["png"] }
TOML
cat > "$folder/port/src/main.rs" <<'RUST'
use image::imageops::FilterType;

fn main() {
    let folder = std::env::args().nth(1).expect("a folder");
    let picture = image::open(format!("{folder}/colours.png")).expect("a picture");
    picture.to_luma8().save(format!("{folder}/grey.png")).expect("grey");
    for (name, width, height, filter) in [
        ("bilinear", 17, 13, FilterType::Triangle),
        ("enlarged", 101, 77, FilterType::Triangle),
        ("bicubic", 17, 13, FilterType::CatmullRom),
        ("lanczos", 17, 13, FilterType::Lanczos3),
    ] {
        picture.resize_exact(width, height, filter).save(format!("{folder}/{name}.png")).expect(name);
    }
}
RUST
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pillow==12.0.0 numpy==2.3.5
"$folder/venv/bin/python" - "$folder" <<'PY'
import sys

import numpy as np
from PIL import Image

colours = np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype("uint8")
colours[0, :3] = np.diag([255, 255, 255])
Image.fromarray(colours).save(f"{sys.argv[1]}/colours.png")
PY
(cd "$folder/port" && CARGO_TARGET_DIR="$folder/target" cargo run --quiet --release -- "$folder")
"$folder/venv/bin/python" - "$folder" <<'PY'
import sys

import numpy as np
import PIL
from PIL import Image

print("Pillow", PIL.__version__, "image 0.25.10")
folder = sys.argv[1]
picture = Image.open(f"{folder}/colours.png")
of = lambda name: np.asarray(Image.open(f"{folder}/{name}.png")).astype(int)
theirs = {
    "grey": picture.convert("L"),
    "bilinear": picture.resize((17, 13), Image.BILINEAR),
    "enlarged": picture.resize((101, 77), Image.BILINEAR),
    "bicubic": picture.resize((17, 13), Image.BICUBIC),
    "lanczos": picture.resize((17, 13), Image.LANCZOS),
}
apart = {}
for name, picture in theirs.items():
    difference = np.abs(of(name) - np.asarray(picture).astype(int))
    apart[name] = int(difference.max())
    print(f"{name:9} apart by at most {difference.max():2} of 255, {difference.mean():.2f} on average")
pure = [(int(of("grey")[0, at]), int(np.asarray(theirs["grey"])[0, at])) for at in range(3)]
print("pure red, green, blue as grey (image, Pillow):", pure)
still = apart["grey"] >= 25 and max(apart[name] for name in theirs if name != "grey") <= 1 and pure[0] == (54, 76) and pure[2] == (18, 29)
print("as described" if still else "CHANGED: this is not what the header describes")
sys.exit(not still)
PY
