"""Pictures: a pattern that any language can compute from integers alone, and the files of the fixtures."""

from pathlib import Path

import numpy as np
from PIL import Image

# One large enough for tiles of 64, one small, one so thin that positions are interpolated down, one in its own colours.
FILES = {"large.png": (230, 150), "small.png": (90, 70), "thin.png": (180, 24), "tall.png": (70, 200)}
# What `load_image` makes of each of these is recorded: formats, orientations, colour kinds.
TURNED = {"turned.jpg": 6, "mirrored.jpg": 2, "turned.png": 8, "turned.webp": 5}

# The ways in which a JPEG may store its colours; sizes that are no multiple of a block show how edges are filled.
STORED = {
    "full.jpg": {"subsampling": "4:4:4"},
    "half.jpg": {"subsampling": "4:2:2"},
    "quarter.jpg": {"subsampling": "4:2:0", "restart_marker_blocks": 5},
    "strips.jpg": {"subsampling": "4:1:1"},
    "progressive.jpg": {"subsampling": "4:2:0", "progressive": True},
}


def pattern(width: int, height: int) -> np.ndarray:
    """[height, width, 3] bytes: a ramp, squares with hard edges, and rings too fine for the grid."""
    y, x = np.mgrid[:height, :width].astype(np.int64)
    return np.stack([(x * 7 + y * 13) % 256, (x // 3) ^ (y // 5) & 255, x * y // 16 % 256], -1).astype(np.uint8)


def soft(width: int, height: int) -> np.ndarray:
    """As a photograph has them: slow changes, which lossy formats keep."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    waves = [128 + 100 * np.sin(x / 17 + y / 31), 128 + 90 * np.cos(x / 23 - y / 13), 40 + 200 * x * y / (width * height)]
    return np.stack(waves, -1).round().clip(0, 255).astype(np.uint8)


def write(folder: Path) -> None:
    for name, size in FILES.items():
        Image.fromarray(pattern(*size)).save(folder / name)
    for name, orientation in TURNED.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(soft(60, 40)).save(folder / name, exif=exif, **({"lossless": True} if "webp" in name else {}))
    grey = Image.fromarray(soft(50, 50)[..., 0])
    grey.save(folder / "grey.png")
    grey.save(folder / "grey.jpg", quality=95)
    Image.fromarray(soft(50, 50)).quantize(32).save(folder / "palette.png")
    clear = np.concatenate([soft(50, 50), pattern(50, 50)[..., :1]], -1)
    Image.fromarray(clear, "RGBA").save(folder / "clear.png")
    Image.fromarray(soft(64, 48)).save(folder / "lossy.webp", quality=90)
    Image.fromarray(soft(96, 80)).save(folder / "photo.jpg", quality=90, subsampling=2)
    for name, how in STORED.items():
        Image.fromarray(soft(97, 83)).save(folder / name, quality=85, **how)
    Image.fromarray(soft(49, 35)).convert("CMYK").save(folder / "inks.jpg")
    frames = [Image.fromarray(soft(40, 30)).quantize(64), Image.fromarray(255 - soft(40, 30)).quantize(64)]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:], duration=100)
    frames = [Image.fromarray(soft(40, 30)), Image.fromarray(255 - soft(40, 30))]
    frames[0].save(folder / "moving.webp", save_all=True, append_images=frames[1:], duration=100, lossless=True)
    # As `load_image` cuts the values of such a file off at 255, the test compares it with the grey one instead.
    wide = (soft(50, 50).astype(np.uint16) * 257)[..., 0]
    Image.fromarray(wide).save(folder / "deep.png")
