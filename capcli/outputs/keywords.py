"""Keywords from captions: their nouns and attributes, by a stop list, since captions are simple and a tagger is heavy.

A word counts unless it is in LEFT_OUT, or ends as participles and adverbs do (-ing, -ed, -ly) and is not in KEPT. Both
lists were made by hand from the 3,542 words of the bundled vocabulary, each form by what it mostly is in captions:
`swing` is a noun, `swings` a verb. So a vocabulary of one's own, in English, is covered for the most part.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from capcli.model.english import FUNCTION_WORDS
from capcli.results import Candidate, Caption, ImageError

MOST, LEAST_SCORE = 5, 0.1  # keywords for an image, and the score of the last, unless something else is asked for
WORD = re.compile(r"[^\W\d_][^\W_]*(?:['’-][^\W_]+)*")
PARTICIPLE = re.compile(r"[a-z-]+(?:ing|ed|ly)")
# Nouns and attributes that say little by themselves.
VAGUE = """
    able action activity air amount angle area areas art assortment attempt attention back backdrop background
    backside big bigger bit body both bottom bunch bunches camera cameras center centre certain close close-up
    closeup collection color colors column common complete contents corner couple couples day days different
    direction directions display distance double dozen edge edges empty end ends entire extra far figure figures
    first foreground form front full fun giant good great group groups half halves height high huge image images
    individual individuals interesting item items kind kinds large larger left length level light-colored line lines
    little location long lot lots low lower main material mid middle midst moment moments multiple nice numerous
    object objects odd open order pair pairs part parts photo photograph photographs photos picture pictures piece
    pieces place places point points position possible range ready real rear right row rows scene second section
    selection separate series set sets setting shape shapes short side sides similar single size sizes small smaller
    sort sorts special spot spots stuff surface tall theme thing things third time times tiny top tops total type
    types upper use variety various vast view views wall-to-wall way ways wide word words world
"""
# Verbs, in the forms that are verbs in most captions.
VERBS = """
    act admire aim aims appear appears approach approaches ascends ask attempts balance balances bark barks bathe
    battle battles beat become becomes been beg begin begins bend bends bent bite bites bitten blow blows bounce
    bounces bound bounds break breaks bring brings brought brush built burn buy came can carries carry cast casts
    catch catches caught celebrate celebrates chase chases chat check checks cheer cheers chew chews clap clean
    clears climb climbs cling clings close closes collide come comes compete competes connect consists contain
    contains control controls converse cook cooks cover covers crash crashes crawl crawls cross crosses crouch
    crouches cut cuts cycles dance dances depict descends dig digs dive dives do drag drags draw drawn draws drew
    dribble dribbles drinks drive driven drives drop drops dunks eat eaten eats embrace emerges engage enjoy enjoys
    enter enters examine exercise extends fall fallen falls feature features feed feeds feel fell fetch fetches
    fight fights fill find finish fit fix flies flip flips float floats flop flops flown fly focus fold follow
    follows gallops gather gathers gave gaze gazes get gets give given gives glides go goes going gone got grab
    grabs graze grazes greet grinds grip grow guide hand handle handles hang hangs has have hear held help helps
    hidden hide hides hike hikes hit hits hold holds hop hope hopes hops hover hug hugs hung hunt hurt include
    includes inspect interact interacts jog jogs join juggles jump jumps keep keeps kept kick kicks kiss kisses
    kneel kneels know known laid lands laugh laughs launch launches lay lays lead leads lean leans leap leaps learn
    led let lets lick licks lie lies lift lifts limp listen listens lit load look looks lost lunges made make makes
    maneuver maneuvers march marches meet meets miss misses mix move moves navigates negotiate observe observes
    offer offers opens overlook overlooks own participate participates pass passes pause pauses pay peek peeks peer
    peers perform performs pets pick picks pile piles pitches play plays poke pose posed poses pounce pounces pour
    pours practice practices prepare prepares press presses pretend pretends proceeds protect protects pull pulls
    push pushes put puts race raise raises ran reach reaches read reads rears receive receives relax relaxes remove
    repelling rest rests retrieve retrieves return returns reveals ridden ride rides rise rises roams rode roll
    rolls romp rounds rub rubs run runs sat saw say says scales scratch scratches scream screams see seem seems seen
    sell sells send serve serves shake shakes share shares shine shines shoot shoots shot shots show shown shows
    sing sings sip sips sit sits skates skips sleep sleeps slid slide slides slip smell smiles smokes snap snaps
    sniff sniffs soak soars speak speaks speeds spin spins splash splashes splits spouts sprawls spray sprays spread
    spreads sprints sprouts squat squats squirt squirts stand stands stare stares start starts stay steers stir
    stood stop stops stretch stretches strike strikes stroll strolls struggle struggles stuck support supports surfs
    surround surrounds swam sweeps swept swim swims swings swung tackle tackles take taken takes talk talks tastes
    teach teaches tell tells threw throw thrown throws tip took toss tosses touch touches tours tow travel travels
    tries trots try tug tugs tumble turn turns twirls twist twists used uses visit wade wades wait waits wakes walk
    walks want wash washes watch watches wear wears went whip whips win wipes won work works worn wrap wrestle
    wrestles write writes written yawn yells zip
"""
LEFT_OUT = FUNCTION_WORDS.union(f"{VAGUE} {VERBS}".split())
# Nouns, names of sports, and attributes that end as participles and adverbs do.
KEPT = frozenset(
    """
    aged assembly awning baked bearded bed bedding belly biped bobsled boxing bred breed broadleaved bubbly building
    bully butterfly camouflaged camping carving ceiling checkered clothing crossing crowded curly curly-haired
    cycling dark-haired drawing dressing duckling dumpling earring elderly evening family fencing firefly fishing
    fried frilly frosting golfing graffitied gray-haired grilled gully helmeted hiking hilly holly hooded icing
    jelly kayaking king kitesurfing landing leashed light-haired lighting lightning lily long-haired lovely moped
    morning motorcycling multi-colored multicolored naked old-fashioned opening padded painting paragliding
    parasailing paved polka-dotted potted pudding racing rafting railing red red-haired redheaded reed ring rowing
    sailing seasoning seaweed seed shed shopping short-haired sibling silly skateboarding skating skiing sled
    sledding sling smelly snorkeling snow-capped snow-covered snowboarding snowcapped speed spotted spring steed
    sting string striped stuffed stuffing surfing swimming swing tattooed three-wheeled topping tree-lined
    tri-colored tubing tweed ugly underling uniformed wakeboarding waterskiing wedding weed windsurfing wing wooded
    wooly wrestling
    """.split()
)
# Parts of these, `hot` and `dog`, would mislead.
COMPOUNDS = frozenset(
    tuple(compound.split())
    for compound in (
        "baseball bat,baseball field,baseball game,baseball player,bow tie,cell phone,christmas tree,coffee cup,"
        "coffee table,cutting board,dining room,dining table,dirt bike,fire engine,fire hydrant,fire truck,"
        "german shepherd,golden retriever,guinea pig,hot dog,hot dogs,hot tub,hula hoop,ice cream,ice skates,"
        "living room,parking lot,parking meter,phone booth,polar bear,polka dot,polka dots,potted plant,rocking chair,"
        "ski lift,soccer ball,soccer field,soccer player,soccer game,stop light,stop sign,street light,street sign,"
        "stuffed animal,stuffed animals,swimming pool,teddy bear,teddy bears,tennis ball,tennis court,tennis player,"
        "tennis racket,tennis racquet,toilet paper,traffic light,traffic lights,washing machine,wine glass,wine glasses"
    ).split(",")
)


def all_with_keywords(
    results: Iterable[Caption | ImageError], num: int, most: int, min_score: float | None
) -> list[Caption | ImageError]:
    """Return captions with keywords, and the failures among them as they are.

    num: candidates per image that are kept, 1 or more.
    most: keywords per image, 1 or more.
    min_score: keywords that score less are left out; None is the usual limit.
    """
    least = LEAST_SCORE if min_score is None else min_score
    return [each if isinstance(each, Exception) else with_keywords(each, num, most, least) for each in results]


def with_keywords(caption: Caption, num: int, most: int = MOST, min_score: float = LEAST_SCORE) -> Caption:
    """Return a caption with keywords from all of its candidates, but with the first `num` of these only.

    most, min_score: as `keywords_of` takes them.
    """
    keywords = keywords_of(caption.candidates, most, min_score)
    return replace(caption, candidates=caption.candidates[:num], keywords=keywords)


def keywords_of(candidates: Sequence[Candidate], most: int = MOST, min_score: float = LEAST_SCORE) -> tuple[str, ...]:
    """Return the keywords of an image, best first.

    A keyword's score is the probability that the model gave it where it said it, in each caption the highest if it said
    it twice, and 0 in captions without it; averaged over the captions by their probabilities, which are scaled to add
    up to 1. Of a plural in -s and its singular, and of a compound and its parts, only the better one is a keyword.

    candidates: the image's captions.
    most: keywords to return, 1 or more.
    min_score: keywords that score less are left out, 0 … 1.
    """
    best = max((candidate.log_prob for candidate in candidates), default=0.0)
    weights = [math.exp(candidate.log_prob - best) for candidate in candidates]
    scores: dict[str, float] = {}
    for candidate, weight in zip(candidates, weights, strict=True):
        found: dict[str, float] = {}
        for keyword, log_prob in nouns_and_attributes(candidate.words, candidate.word_log_probs):
            found[keyword] = max(found.get(keyword, 0.0), math.exp(log_prob))
        for keyword, probability in found.items():
            scores[keyword] = scores.get(keyword, 0.0) + weight / sum(weights) * probability
    keywords: list[str] = []
    for keyword in sorted(scores, key=lambda keyword: -scores[keyword]):
        if scores[keyword] >= min_score and not any(are_alike(keyword, better) for better in keywords):
            keywords.append(keyword)
    return tuple(keywords[:most])


def are_alike(keyword: str, other: str) -> bool:
    """Return whether one of two different keywords is enough."""
    words, others = set(keyword.split()), set(other.split())
    plurals = (f"{keyword}s", f"{keyword}es"), (f"{other}s", f"{other}es")
    return words < others or words > others or other in plurals[0] or keyword in plurals[1]


def nouns_and_attributes(words: Sequence[str], log_probs: Sequence[float]) -> Iterable[tuple[str, float]]:
    """Yield the words of a caption that are keywords, and the compounds, with their log-probabilities.

    words: of the caption.
    log_probs: natural logarithms, one for each word; more are ignored. A compound has that of its last word.
    """
    place = 0
    while place < len(words):
        pair = tuple(words[place : place + 2])
        if pair in COMPOUNDS:
            yield " ".join(pair), log_probs[place + 1]
            place += 2
            continue
        if is_keyword(words[place]):
            yield words[place], log_probs[place]
        place += 1


def is_keyword(word: str) -> bool:
    """Return whether a word of a caption is a noun or an attribute, as far as the lists tell."""
    if not WORD.fullmatch(word) or word in LEFT_OUT:
        return False
    return word in KEPT or not PARTICIPLE.fullmatch(word)
