"""Values as bytes, for tiers outside this process: the codecs, and what reads a value as the type it was written as.

>>> from samovar.codecs import decode, encode
>>> decode(encode({"at": (1, 2.5)}))
{'at': (1, 2.5)}

A `Coder` is what a tier calls: a codec, the type of its values, and how large they may be.
"""

from samovar.codecs._builtin import Json, MsgPack, Pickle, Raw
from samovar.codecs._classes import register
from samovar.codecs._coder import Coder, decode, encode
from samovar.codecs._dictionary import train_dictionary
from samovar.codecs._protocol import Codec, codec

__all__ = [
    "Codec",
    "Coder",
    "Json",
    "MsgPack",
    "Pickle",
    "Raw",
    "codec",
    "decode",
    "encode",
    "register",
    "train_dictionary",
]
