"""The fixed output codes of LeNet-5: 84 bits a class, drawn as 7x12 pictures for the ten digits, seeded beyond."""

import numpy as np

CODE_LENGTH = 84
_SEED = 1998

# Each digit is a picture 7 wide and 12 high, a row a word; '#' is +1, '.' is -1. The paper prints its own pictures
# of the ASCII characters; these are drawn anew in the same format, so that similar shapes have near codes.
_DIGIT_PICTURES = (
    "....... ..###.. .##.##. ##...## ##...## ##...## ##...## ##...## ##...## .##.##. ..###.. .......",
    "....... ...##.. ..###.. .####.. ...##.. ...##.. ...##.. ...##.. ...##.. ...##.. .###### .......",
    "....... .#####. ##...## .....## .....## ....##. ...##.. ..##... .##.... ##..... ####### .......",
    "....... .#####. ##...## .....## .....## ..####. .....## .....## .....## ##...## .#####. .......",
    "....... ....##. ...###. ..####. .##.##. ##..##. ##..##. ####### ....##. ....##. ....##. .......",
    "....... ####### ##..... ##..... ##..... ######. .....## .....## .....## ##...## .#####. .......",
    "....... ..####. .##.... ##..... ##..... ######. ##...## ##...## ##...## ##...## .#####. .......",
    "....... ####### .....## .....## ....##. ....##. ...##.. ...##.. ..##... ..##... ..##... .......",
    "....... .#####. ##...## ##...## ##...## .#####. ##...## ##...## ##...## ##...## .#####. .......",
    "....... .#####. ##...## ##...## ##...## ##...## .###### .....## .....## ....##. .####.. .......",
)


def code_book(num_classes: int) -> tuple[str, ...]:
    """Returns one code a class: the digits' pictures for up to ten classes, seeded random bits for more."""
    if num_classes <= len(_DIGIT_PICTURES):
        return tuple(picture.replace(" ", "") for picture in _DIGIT_PICTURES[:num_classes])
    bits = np.random.PCG64(np.random.SeedSequence([_SEED, num_classes])).random_raw(num_classes * CODE_LENGTH) >> 63
    return tuple("".join(".#"[bit] for bit in row) for row in bits.reshape(num_classes, CODE_LENGTH))
