"""Make the set `clothes` that comes with the package, from the photographs that it was chosen from.

    python benchmarks/clothes.py TAR FOLDER

TAR holds `clothing/<class>/<name>.jpg`. The pictures below were chosen by eye, 40 a class: one garment each, no garment
twice, no doubtful label, no face, few brands. Of each class the first 28 by name are for training, the others for
testing. They are turned upright, shrunk and saved without metadata; the same Pillow writes the same bytes. What the
files shall be is SHA-256 `CLOTHES_SHA256` in src/convladder/data/loading.py; this prints what they are.
"""

import argparse
import tarfile
from pathlib import Path

from PIL import Image, ImageOps

from convladder.data.loading import digest_of_pictures

LONGER_SIDE = 256
QUALITY = 88
FOR_TRAINING = 28

# By class, how the names of the files begin.
CHOSEN = {
    "dress": """
        009b3c31 041c6bde 053689bb 0546d34a 05d361f6 07bf93d6 08e1576e 0b5f7f85 123cedc9 13a7bfe9 13e42594
        146d59ff 14a73972 15e1f140 160c2e1c 176e457c 18519bfc 1bb8d90d 1c22dfec 1da10477 2074bc3b 21059bce
        22cc2840 230ee7f3 2456b899 27de089d 281902e9 2adf987d 2b66fdb1 2fdb7ce2 32c91193 334bc6ef 37271dcc
        377c407c 3fc1c8b5 411a9780 41e13fef 4313db90 4569133b 4eb4072c
    """,
    "hat": """
        047ea75e 127708b5 1aac00cd 22745622 24fcfe3e 26fca408 29c2d4f8 2c3533f9 324b3d8f 340e3716 471a5dba
        47ce5231 4976873a 4ac3d6f0 51f52902 5ddedf0c 5ee53ada 66ce58c5 6a09b559 6cc3d16a 70a61a27 73ac436f
        755595ad 7b9bdb6d 8a123238 a0b289ae a283e901 a47cd387 a9c5f50d a9db59ad aae17fcd ab8b393f be33ec4c
        c0a3ae6d c246ac1a ca3b6229 d7dfcea1 f1727c58 f207a364 f4b03f97
    """,
    "pants": """
        0098b991 027c81f2 030a5708 03383314 03a43dea 062752a8 08f602bc 0982f691 0a7e5fe0 0ad5bfb5 0c99f0b4
        0ccc318a 0e27351a 0e3d71f8 1015f2a4 1042a9df 119518b0 1284316a 129287b2 12bfe0f0 12f7dcc1 137ef939
        13def0b2 1417a51e 14625df7 16f2e166 18a573de 1911309c 19931b17 1d42c614 1ed97cea 2126322b 276db6ba
        27d89ad3 2c54ae46 2ef038be 300963e8 37a0cfa8 3f76d021 4125a2d5
    """,
    "shoes": """
        00f6e504 01c5cb43 0a30baec 0e6871ee 10d807a5 1558e0ca 17e48b37 189a94de 1e3ce182 1ece3817 206b6566
        22be984f 22d0ec9a 261b36f3 2d77ba82 2fb68610 30b6fd9b 33a07241 34c94dfc 35707ebd 38935bd7 38bec7b5
        38cf3258 3b86d877 3c4df256 3cf61c2b 3ebf66af 43b4bd38 4cb4760c 5195e000 530c78c5 598fb3d5 6048d80e
        6829991a 76649754 7b400ce0 7cad8857 802451d1 82fd1225 84cfca64
    """,
    "t-shirt": """
        00003aeb 01ace8a7 01d1fed7 0285f2a0 02ef828a 0373fc11 0386a2d3 0422c599 04520051 06a5caaa 0702f1cb
        07349830 074e0101 0881dd9e 0a85a584 0b1cc7a6 0bdfdcd8 0c42c400 0e2b92c8 0e5442c4 0fd555fa 10053308
        106b79da 112c0b70 12ecd9a3 13b58794 13cbd566 13ef735c 158da473 171437da 17225acd 182967b4 1963940a
        19f02195 1a3b3d48 1a6c9cd3 1ab8de40 1d91c19f 1e9db0bb 22c849e7
    """,
}


def make(source: tarfile.TarFile, folder: Path) -> None:
    names = source.getnames()
    for class_name, beginnings in CHOSEN.items():
        for number, beginning in enumerate(beginnings.split(), 1):
            (name,) = [name for name in names if name.startswith(f"clothing/{class_name}/{beginning}")]
            with source.extractfile(name) as file, Image.open(file) as picture:  # type: ignore[union-attr]
                upright = ImageOps.exif_transpose(picture).convert("RGB")
            upright.thumbnail((LONGER_SIDE, LONGER_SIDE), Image.Resampling.LANCZOS)
            split = "train" if number <= FOR_TRAINING else "test"
            target = folder / split / class_name / f"{class_name}-{number:02}.jpg"
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.frombytes("RGB", upright.size, upright.tobytes()).save(target, quality=QUALITY, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the set clothes from a tar file of photographs.")
    parser.add_argument("tar", type=Path)
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    with tarfile.open(given.tar) as source:
        make(source, given.folder)
    print(digest_of_pictures(given.folder))


if __name__ == "__main__":
    main()
