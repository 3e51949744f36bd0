"""Batched beam search with any decoder; hypotheses keep their attention weights."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from capcli.decoding.hypotheses import Hypotheses
from capcli.decoding.options import BeamOptions
from capcli.decoding.rules import Rules
from capcli.model.decoders import Decoder
from capcli.model.encoders import Features
from capcli.model.vocabulary import END, START, Vocabulary

# Finished images are dropped only once this share or less of the batch is unfinished, as dropping copies the tensors of
# all others.
SHRINK_AT = 7 / 8


@torch.inference_mode()
def beam_search(
    decoder: Decoder, features: Features, options: BeamOptions, vocabulary: Vocabulary
) -> Hypotheses[Tensor]:
    """Return the best sentences found for each image, by length-normalised log-probability.

    Each step extends every beam of an image by every word. Of the best `beam` extensions, those by `<end>` become
    finished sentences; the best `beam` others are the next beams. An image is done once it has `beam` finished
    sentences, one as likely as any of its beams; at max_length all beams end. So a beam of 1 is greedy search, and one
    wider than the number of possible prefixes is exhaustive. A sentence has at least one word.

    decoder: in evaluation mode.
    features: on the decoder's device.

    Raises ValueError as `Rules.of` does.
    """
    rules = Rules.of(options, vocabulary)
    beam, steps = options.beam, options.max_length + 1
    batch, device = features.annotations.shape[0], features.annotations.device
    # All beams begin alike, so the first step has only one.
    state = decoder.start(features)
    words = torch.full((batch, 1), START, device=device)
    log_probs = torch.zeros(batch, 1, device=device)
    images = torch.arange(batch, device=device)  # batch positions of images still being searched
    # Per step: each live beam's word, its log-probability, and the beam it extends.
    trellis_words = torch.zeros(steps, batch, beam, dtype=torch.long, device=device)
    trellis_parents = torch.zeros(steps, batch, beam, dtype=torch.long, device=device)
    trellis_log_probs = torch.zeros(steps, batch, beam, device=device)
    history = words.new_zeros(batch, beam, 0)  # live beams' words
    attention = gates = None
    # Per finished sentence: score, log-probability of <end>, last step, and beam then.
    scores = torch.full((batch, beam), -torch.inf, device=device)
    end_log_probs = torch.zeros(batch, beam, device=device)
    ends = torch.zeros(batch, beam, dtype=torch.long, device=device)
    end_beams = torch.zeros(batch, beam, dtype=torch.long, device=device)

    for time in range(steps):
        step = decoder.step(words, state)
        if step.attention is not None:
            if attention is None:
                attention = step.attention.new_zeros(steps, batch, beam, step.attention.shape[2])
            attention[time, images] = step.attention
        if step.gate is not None:
            if gates is None:
                gates = step.gate.new_zeros(steps, batch, beam)
            gates[time, images] = step.gate
        next_log_probs = step.logits.log_softmax(2)
        if time == 0:
            next_log_probs[..., END] = -torch.inf
        if time == options.max_length:
            next_log_probs[..., :END] = next_log_probs[..., END + 1 :] = -torch.inf
        forbid(next_log_probs, history, rules)
        totals = log_probs.unsqueeze(2) + next_log_probs
        size = totals.shape[2]
        # A beam can end only once, so at most `beam` of these are ends, leaving `beam` to go on.
        found = min(2 * beam, totals.shape[1] * size)
        totals, flat = totals.flatten(1).topk(found, dim=1)
        if found < 2 * beam:  # few words and a wide beam
            totals, flat = F.pad(totals, (0, 2 * beam - found), value=-torch.inf), F.pad(flat, (0, 2 * beam - found))
        parents, chosen = flat // size, flat % size
        chosen_log_probs = next_log_probs.flatten(1).gather(1, flat)
        is_end = chosen == END

        ending = is_end[:, :beam] & totals[:, :beam].isfinite()
        new_scores = (totals[:, :beam] / (time + 1) ** options.length_penalty).masked_fill(~ending, -torch.inf)
        scores_now, best = torch.cat([scores[images], new_scores], 1).topk(beam, dim=1)
        scores[images] = scores_now
        for old, new in (
            (end_log_probs, chosen_log_probs[:, :beam]),
            (ends, torch.full_like(parents[:, :beam], time)),
            (end_beams, parents[:, :beam]),
        ):
            old[images] = torch.cat([old[images], new], 1).gather(1, best)

        # A stable sort moves ends to the back and leaves the others in order of log-probability.
        alive = is_end.int().sort(dim=1, stable=True).indices[:, :beam]
        log_probs = totals.masked_fill(is_end, -torch.inf).gather(1, alive)
        words, parents = chosen.gather(1, alive), parents.gather(1, alive)
        trellis_words[time, images] = words
        trellis_parents[time, images] = parents
        trellis_log_probs[time, images] = chosen_log_probs.gather(1, alive)
        # If few words may follow, `beam` poor sentences end before the best one is complete.
        likeliest = (scores_now * (ends[images] + 1) ** options.length_penalty).amax(1)
        going = (scores_now.isinf().any(1) | (log_probs[:, 0] > likeliest)) & log_probs.isfinite().any(1)
        count = int(going.sum())
        if not count:
            break
        state = step.state.reorder(parents)
        history = torch.cat([history.gather(1, parents.unsqueeze(2).expand(-1, -1, time)), words.unsqueeze(2)], 2)
        if count <= SHRINK_AT * len(images):
            kept = going.nonzero().squeeze(1)
            images, state, words, log_probs = images[kept], state.keep(kept), words[kept], log_probs[kept]
            history = history[kept]
        else:
            log_probs = log_probs.masked_fill(~going.unsqueeze(1), -torch.inf)

    return trace_back(
        trellis_words, trellis_parents, trellis_log_probs, attention, gates, scores, end_log_probs, ends, end_beams
    )


def forbid(log_probs: Tensor, history: Tensor, rules: Rules) -> None:
    """Set to −inf, in place, each word that must not come next.

    log_probs: (batch, beam, vocabulary), of the next word.
    history: (batch, beam, time) ids so far.
    """
    if rules.banned:
        log_probs[..., list(rules.banned)] = -torch.inf
    if rules.no_repeat:
        block_repeats(log_probs, history, rules.no_repeat)
    if rules.no_echo:
        block_echoes(log_probs, history, rules)


def block_echoes(log_probs: Tensor, history: Tensor, rules: Rules) -> None:
    """Set to −inf, in place, each word that would echo one before with only "and", or "and a", between.

    log_probs, history: see `forbid`.
    """
    time = history.shape[2]
    joining, articles = (torch.isin(history, history.new_tensor(ids)) for ids in (rules.joining, rules.articles))
    echoed = [torch.ones_like(joining[..., :1])]
    if time > 1:
        echoed.append(joining[..., -1:])
    if time > 2:
        echoed.append(joining[..., -2:-1] & articles[..., -1:])
    for back, where in enumerate(echoed[:time], 1):
        word = history[..., time - back : time - back + 1]
        log_probs.scatter_add_(2, word, torch.zeros_like(word, dtype=log_probs.dtype).masked_fill(where, -torch.inf))


def block_repeats(log_probs: Tensor, history: Tensor, length: int) -> None:
    """Set to −inf, in place, each word that would repeat a sequence of its beam.

    log_probs, history: see `forbid`.
    length: of a sequence in words, 1 or more.
    """
    time = history.shape[2]
    if time < length:
        return
    sequences = history.unfold(2, length, 1)
    last_words = history[:, :, time - length + 1 :].unsqueeze(2)
    again = (sequences[..., :-1] == last_words).all(3)
    log_probs.scatter_add_(
        2, sequences[..., -1], torch.zeros_like(again, dtype=log_probs.dtype).masked_fill(again, -torch.inf)
    )


def trace_back(
    trellis_words: Tensor,
    trellis_parents: Tensor,
    trellis_log_probs: Tensor,
    attention: Tensor | None,
    gates: Tensor | None,
    scores: Tensor,
    end_log_probs: Tensor,
    ends: Tensor,
    end_beams: Tensor,
) -> Hypotheses[Tensor]:
    """Return a batch's finished sentences, traced back through the trellis.

    trellis_words, trellis_parents, trellis_log_probs: (steps, batch, beam), each live beam's word at a step, the
        earlier beam it extends, and the word's log-probability.
    attention: (steps, batch, beam, locations), in the earlier beams' order; None without attention.
    gates: (steps, batch, beam), in that order; None without attention.
    scores, end_log_probs, ends, end_beams: (batch, beam), each finished sentence's score (−inf for none),
        log-probability of `<end>`, last step, and beam before it.
    """
    ends = ends.masked_fill(scores.isinf(), 0)
    end_log_probs = end_log_probs.masked_fill(scores.isinf(), 0)
    time = int(ends.max())
    batch, beam = scores.shape
    words = torch.zeros(batch, beam, time, dtype=torch.long, device=scores.device)
    word_log_probs = torch.zeros(batch, beam, time + 1, device=scores.device)
    word_log_probs.scatter_(2, ends.unsqueeze(2), end_log_probs.unsqueeze(2))
    found_attention = None if attention is None else attention.new_zeros(batch, beam, time, attention.shape[3])
    found_gates = None if gates is None else gates.new_zeros(batch, beam, time)
    pointers = end_beams
    for t in range(time - 1, -1, -1):
        inside = t < ends
        parents = trellis_parents[t].gather(1, pointers)
        words[:, :, t] = trellis_words[t].gather(1, pointers) * inside
        word_log_probs[:, :, t] += (trellis_log_probs[t].gather(1, pointers)).masked_fill(~inside, 0)
        if found_attention is not None and attention is not None:
            index = parents.unsqueeze(2).expand(-1, -1, attention.shape[3])
            found_attention[:, :, t] = attention[t].gather(1, index) * inside.unsqueeze(2)
        if found_gates is not None and gates is not None:
            found_gates[:, :, t] = gates[t].gather(1, parents) * inside
        pointers = torch.where(inside, parents, pointers)
    return Hypotheses(words, ends, word_log_probs, scores, found_attention, found_gates)
