"""The tokenizer of the text encoder."""

from pathlib import Path

from tokenizers import Tokenizer

from acestep.errors import CheckpointError
from acestep.models.checkpoint.config import read_json

TOKENIZER_FILE = "tokenizer.json"


class TextTokenizer:
    """Texts to token ids, without padding and truncation."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        tokenizer.no_padding()
        tokenizer.no_truncation()

    def __call__(self, text: str) -> list[int]:
        return self.tokenizer.encode(text).ids


def load_tokenizer(folder: Path, rows: int | None = None) -> TextTokenizer:
    """The tokenizer as tokenizer.json has it.

    rows: of the text encoder's embedding, where it is loaded. CheckpointError where the tokenizer gives tokens beyond
    them.
    """
    path = folder / TOKENIZER_FILE
    read_json(path)
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises the base class
        raise CheckpointError(f"{path} is not a tokenizer ({error}); copy the checkpoint again") from None
    last = max(tokenizer.get_vocab().values(), default=-1)
    if last < 0 or (rows is not None and last >= rows):
        raise CheckpointError(
            f"{folder}: the last token of its tokenizer is {last}, the text encoder beside it has {rows} rows; "
            f"are both of the same model?"
        )
    return TextTokenizer(tokenizer)
