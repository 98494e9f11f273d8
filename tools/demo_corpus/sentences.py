"""English sentences from a small grammar: what the talkers of the demo corpus say."""

import re
import zlib

import numpy as np

# The checksum of a sentence decides its split, so that no sentence is in two splits.
SPLITS = ("train", "train", "train", "train", "train", "train", "valid", "test")

TEMPLATES = (
    "{the} {adjective} {person} {verb_past} {the} {thing} {where}.",
    "{name} {verb_past} {a} {adjective} {thing}, and {the} {person} {act_past} {manner}.",
    "{when}, {the} {person} {act_past} {where}.",
    "{question} {the} {person} {verb} {the} {adjective} {thing} {when}?",
    "Please {verb} {the} {thing} {where}, {name}.",
    "{the} {things} {where} are {adjective} and {adjective}.",
    "There were {number} {adjective} {things} {where}.",
    "{name} and {name} will {verb} {number} {things} {when}.",
    "If {the} {person} can {act}, we should {verb} {the} {thing}.",
    "It {weather} {where}, so {name} {act_past} {manner}.",
    "Nobody {verb_past} {the} {adjective} {thing} that {name} {verb_past} {when}.",
    "{the} {thing} costs {number} {money}, but {the} {things} are {adjective}.",
    "You could hear {the} {person} {act} {where}.",
    "{manner}, {name} {verb_past} {number} {things} for {the} {person}.",
    "Why would {a} {person} {verb} {the} {thing} before {name} {act_past}?",
    "We {act_past} {where} until {the} {things} were {adjective}.",
)

WORDS = {
    "the": "the, the, the, the, my, your, our, his, her, their",
    "a": "one, another, every, no, some",
    "question": "could, would, should, will, might, may",
    "name": """
        Joyce, Arthur, Yolanda, George, Ruth, Hugh, Sheila, Troy, Valerie, Theo, Charles, Zoe, Owen,
        Judith, Wayne, Fiona, Boyd, Nathan, Ursula, Keith, Isabel, Quentin, Margaret, Louise, Roger,
        Vivian, Douglas, Phoebe, Samuel, Megan
    """,
    "person": """
        farmer, judge, teacher, young mother, engineer, sailor, doctor, lawyer, cook, neighbour,
        soldier, watchmaker, guitar player, child, old fisherman, shopkeeper, driver, gardener,
        thief, visitor, nurse, brother, uncle, queen, journalist, boy, girl, painter, postman,
        musician, carpenter, butcher, hunter, pilot, student, chief, author
    """,
    "thing": """
        measure, treasure chest, yellow umbrella, wooden bridge, garage door, television, cheese,
        oil lamp, coin, kitchen table, newspaper, leather jacket, fishing boat, school bell, toy
        train, orange juice, glass vase, photograph, church tower, violin, silver watch, blanket,
        garden wall, hammer, letter, bicycle, engine, suitcase, thick book, white feather, cup of
        coffee, loaf of bread, box of matches, piece of string, puzzle, chain, map, voice, question,
        story, decision, idea, plan, radio show, earring, zebra, donkey, wheel, shoe
    """,
    "things": """
        apples, boxes, fishes, bridges, voices, horses, chairs, mountains, treasures, shoes,
        windows, feathers, stories, mushrooms, cherries, pictures, engines, cottages, clothes,
        watches, leaves, mouths, toys, village houses, judges, potatoes, garages, knives, visions,
        roses, oranges, sandwiches, branches, wolves, keys
    """,
    "adjective": """
        quick, smooth, yellow, thin, heavy, noisy, usual, strange, bright, cheap, joyful, rough,
        gentle, huge, thirsty, dark, beautiful, blue, royal, empty, curious, wooden, frozen, shy,
        wealthy, narrow, foolish, precious, loud, ancient, fresh, soft, warm, sharp, dusty, hollow,
        northern, average, bitter, casual, awkward, quiet, golden, proud, vague, ugly, round
    """,
    "verb": """
        measure, watch, bring, choose, throw, catch, borrow, polish, follow, repair, paint, carry,
        judge, find, enjoy, wash, forget, finish, destroy, sketch, keep, push, pull, examine, open,
        describe, hide, buy, sell, imagine
    """,
    "verb_past": """
        measured, watched, brought, chose, threw, caught, borrowed, polished, followed, repaired,
        painted, carried, judged, found, enjoyed, washed, forgot, finished, destroyed, sketched,
        kept, pushed, pulled, examined, opened, described, hid, bought, sold, noticed, imagined,
        weighed, avoided, shook, fetched, wove, showed, spoiled
    """,
    "act": """
        sing a song, wait, laugh, go fishing, whistle, work late, cough, walk away, breathe, argue,
        cheer, read aloud, swim, join us, change the subject, vanish, dream, shout, yawn, think it
        over, play the flute, rehearse, choose
    """,
    "act_past": """
        sang a song, waited, laughed, went fishing, whistled, worked late, coughed, walked away,
        breathed deeply, argued, cheered, read aloud, swam, joined us, changed the subject,
        vanished, dreamed, shouted, yawned, thought it over, played the flute, rehearsed, sat down,
        fell asleep, hurried home, turned around
    """,
    "where": """
        near the river, behind the church, at the village fair, under the oak tree, on the beach, in
        the garage, beyond the hills, across the road, next to the fountain, inside the theatre, by
        the north gate, in the kitchen, above the shop, at the edge of the forest, around the
        corner, on the southern shore, through the fog, outside the station, between two houses,
        upstairs, below the cliff, in the yard, over there, at the zoo
    """,
    "when": """
        before breakfast, on the fourth of July, this evening, after the long journey, in January,
        just in time, every other week, at half past eight, during the storm, on Wednesday, once
        again, late at night, without delay, for the third time, at noon, in early spring
    """,
    "manner": """
        quietly, with great pleasure, without a word, cheerfully, very slowly, in a deep voice, as
        usual, thoughtfully, with both hands, all the same, on purpose, by mistake, rather
        nervously, in a hurry, with a sigh, carefully, like a fox, much too soon, somehow,
        awkwardly, at once, for hours
    """,
    "number": """
        two, three, five, six, seven, eight, nine, eleven, twelve, thirteen, fifteen, twenty-three,
        thirty, forty-four, sixty-six, seventy, ninety-nine, a hundred, five hundred, two thousand,
        several, enough, a few, many
    """,
    "money": "pounds, dollars, francs, pennies, euros, shillings",
    "weather": """
        was raining, snowed all day, was getting dark, looked dangerous, felt like autumn, smelled
        of fresh paint, was too noisy, had been foggy, grew cold, was unusually quiet, seemed far
        away, thundered
    """,
}
_CHOICES = {slot: " ".join(words.split()).split(", ") for slot, words in WORDS.items()}


def draw_sentence(split: str, rng: np.random.Generator) -> str:
    """Return a random sentence of a split (train, valid or test)."""
    while True:
        template = TEMPLATES[rng.integers(len(TEMPLATES))]
        sentence = re.sub(r"\{(\w+)\}", lambda slot: _draw(slot.group(1), rng), template)
        sentence = sentence[0].upper() + sentence[1:]
        if SPLITS[zlib.crc32(sentence.encode()) % len(SPLITS)] == split:
            return sentence


def _draw(slot: str, rng: np.random.Generator) -> str:
    return _CHOICES[slot][rng.integers(len(_CHOICES[slot]))]
