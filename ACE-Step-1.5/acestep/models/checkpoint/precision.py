"""The precisions that weights can be held in, by name, and how many bytes a number takes in each."""

from dataclasses import dataclass

GROUP_SIZE = 64  # numbers that share a scale and a bias, in 16 bits each
FULL_PRECISION, HALF_DTYPES = "float32", ("float16", "bfloat16")
DTYPES = (FULL_PRECISION, *HALF_DTYPES)
QUANTISED = {"8bit": 8, "4bit": 4}
AUTO = "auto"
ON_MLX = (AUTO, *DTYPES, *QUANTISED)


@dataclass(frozen=True)
class Precision:
    """A name of DTYPES or QUANTISED, and what it means for each part; the VAE is float32 in all of them.

    encoders: the dtype of text encoder and condition encoder. Beside a quantised decoder it is float16, which every
    GPU has and whose overflow is prevented.
    """

    name: str

    @property
    def bits(self) -> int | None:
        """Of the quantised decoder layers; None: not quantised."""
        return QUANTISED.get(self.name)

    @property
    def encoders(self) -> str:
        return self.name if self.bits is None else "float16"

    @property
    def encoder_bytes(self) -> int:
        """Of one number of text encoder or condition encoder."""
        return bytes_a_number(self.encoders)

    def decoder_bytes(self, name: str) -> float:
        """Of one number of the decoder's weight `name`, as upstream calls it without the prefix `decoder.`."""
        return bytes_a_number(self.name) if self.bits is None else bytes_quantised(bits_of(name, self.bits))


FLOAT32 = Precision(FULL_PRECISION)


def bytes_a_number(dtype: str) -> int:
    """4 or 2."""
    return 4 if dtype == FULL_PRECISION else 2


def bytes_quantised(bits: int) -> float:
    """Of one number, with its share of the group's scale and bias."""
    return bits / 8 + 2 * 2 / GROUP_SIZE


def bits_of(name: str, bits: int) -> int:
    """Of a quantised layer `name` in a decoder of so many bits.

    What is computed once a step, the timestep embedding, or once a run, the condition embedder, reaches every layer
    and is 4 % of the weights: it has 8 bits in any case.
    """
    return bits if name.startswith("layers.") else 8
