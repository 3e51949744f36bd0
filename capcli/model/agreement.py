"""Agreement of a sentence with a photo: the cosine of their vectors in a common space."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from capcli.model.config import FEATURE_WORDS
from capcli.model.vocabulary import PAD, UNKNOWN

DROPOUT_PHOTO, DROPOUT_WORDS = 0.3, 0.2


class Agreement(nn.Module):
    """Bring photos and sentences into one space, where those that belong together point the same way.

    A photo is its global vector through two layers; a sentence is the highest value, anywhere in it, of every feature
    of three words in a row.

    Source: two encoders trained by contrast, Kiros et al. 2014 (arXiv:1411.2539); sentences as in Kim 2014
    (arXiv:1408.5882); the cosine as a judge of captions, Hessel et al. 2021 (arXiv:2104.08718).
    """

    def __init__(self, words: int, global_size: int, size: int) -> None:
        """Initialise the layers.

        words: size of the vocabulary; ids beyond it are read as `<unk>`.
        global_size: channels of the encoder's global vector.
        size: channels of the common space and the layers before it.
        """
        super().__init__()
        self.hidden = nn.Linear(global_size, size)
        self.photo = nn.Linear(size, size)
        self.embedding = nn.Embedding(words, size // 2)
        self.features = nn.Conv1d(size // 2, size, FEATURE_WORDS, padding=FEATURE_WORDS // 2)
        self.sentence = nn.Linear(size, size)

    def photos(self, global_vectors: Tensor) -> Tensor:
        """Return photos in the common space, (batch, size), of length 1. global_vectors: (batch, channels)."""
        x = F.dropout(global_vectors, DROPOUT_PHOTO, self.training)
        x = F.dropout(F.relu(self.hidden(x)), DROPOUT_PHOTO, self.training)
        return F.normalize(self.photo(x), dim=-1)

    def sentences(self, words: Tensor) -> Tensor:
        """Return sentences in the common space, (rows, size), of length 1.

        words: (rows, time) ids without `<start>` and `<end>`, padded with `<pad>`; at least one word each.
        """
        known = words.where(words < len(self.embedding.weight), UNKNOWN)
        is_word = (words != PAD).unsqueeze(2)
        embedded = F.dropout(self.embedding(known), DROPOUT_WORDS, self.training) * is_word
        features = F.relu(self.features(embedded.transpose(1, 2))) * is_word.transpose(1, 2)
        return F.normalize(self.sentence(F.dropout(features.amax(2), DROPOUT_WORDS, self.training)), dim=-1)

    def forward(self, photos: Tensor, words: Tensor) -> Tensor:
        """Return the cosine of each sentence with its photo, (batch, sentences), −1 to 1.

        photos: from `photos`.
        words: (batch, sentences, time) ids, see `sentences`.
        """
        sentences = self.sentences(words.flatten(0, 1)).view(*words.shape[:2], -1)
        return (sentences @ photos.unsqueeze(2)).squeeze(2)
