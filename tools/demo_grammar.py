"""The grammar of the demo corpus: short stories, each in one theme, whose word categories are known.

    python tools/demo_grammar.py --stories 6000 --seed 1 --out configs/demo/corpus.txt \
        --categories configs/demo/categories.json
"""
import argparse
import json
import random

THEMES = {
    "farm": {
        "noun": "cow sheep barn tractor hen field goat plough meadow pig hay orchard".split(),
        "verb": "milked fed ploughed harvested herded planted".split(),
        "adjective": "muddy woolly grassy rural ripe dusty".split(),
    },
    "sea": {
        "noun": "whale boat harbour wave dolphin anchor crab island sailor reef shark lighthouse".split(),
        "verb": "sailed swam rowed dived drifted fished".split(),
        "adjective": "salty stormy deep coastal tidal briny".split(),
    },
    "kitchen": {
        "noun": "oven soup spoon bread butter pan recipe onion sauce cake kettle flour".split(),
        "verb": "baked stirred tasted boiled chopped fried".split(),
        "adjective": "tasty spicy creamy crispy sweet buttery".split(),
    },
    "city": {
        "noun": "street tram tower office traffic bridge market crowd taxi museum subway square".split(),
        "verb": "parked commuted queued strolled shopped hurried".split(),
        "adjective": "busy noisy crowded modern urban paved".split(),
    },
    "space": {
        "noun": "rocket planet comet orbit moon astronaut star galaxy crater satellite asteroid telescope".split(),
        "verb": "launched orbited landed explored floated docked".split(),
        "adjective": "cosmic lunar distant weightless stellar infinite".split(),
    },
    "forest": {
        "noun": "oak fox owl mushroom path wolf pine squirrel moss deer fern cave".split(),
        "verb": "climbed hunted foraged hid howled wandered".split(),
        "adjective": "leafy mossy shady wild tangled ancient".split(),
    },
    "music": {
        "noun": "violin drum song piano choir melody guitar concert trumpet rhythm flute opera".split(),
        "verb": "sang played danced rehearsed hummed performed".split(),
        "adjective": "loud gentle melodic rhythmic tuneful joyous".split(),
    },
    "winter": {
        "noun": "snow ice sledge scarf glacier icicle blizzard mitten frost skate snowman avalanche".split(),
        "verb": "skated shivered froze skied melted slid".split(),
        "adjective": "cold frozen snowy icy white bitter".split(),
    },
}
NAMES = "Anna Boris Clara David Elena Felix Greta Hugo Irene Jonas Karla Leo".split()
NUMBERS = "two three four five six seven eight nine".split()
EMOTIONS = "happy sad angry proud afraid calm lonely excited".split()
TIMES = "morning evening night noon dawn dusk".split()

# N noun, V verb, A adjective of the theme; P person, C count, E emotion, T time of day.
SENTENCES = [
    "P V near the A N .",
    "in the T P saw C A N .",
    "the N was A and the N was A .",
    "P felt E because the N was A .",
    "P and P V with the N .",
    "then P V and found a N .",
    "there were C N beside the A N .",
    "at T the A N made P E .",
    "P told P about the N and the N .",
    "one T the N was so A that P V .",
    "everyone V until T , and P was E .",
    "P wanted a A N , not a N .",
]


def story(rng):
    theme = THEMES[rng.choice(sorted(THEMES))]
    people = rng.sample(NAMES, 2)
    slots = {
        "N": lambda: rng.choice(theme["noun"]),
        "V": lambda: rng.choice(theme["verb"]),
        "A": lambda: rng.choice(theme["adjective"]),
        "P": lambda: rng.choice(people),
        "C": lambda: rng.choice(NUMBERS),
        "E": lambda: rng.choice(EMOTIONS),
        "T": lambda: rng.choice(TIMES),
    }
    sentences = rng.choices(SENTENCES, k=rng.randint(4, 6))
    return " ".join(" ".join(slots[w]() if w in slots else w for w in s.split()) for s in sentences)


def stories(count, seed):
    rng = random.Random(seed)
    return [story(rng) for _ in range(count)]


def categories():
    """Returns {word: category}; words outside the table are function words."""
    table = {}
    for theme, kinds in THEMES.items():
        for words in kinds.values():
            for word in words:
                assert word not in table, word
                table[word] = theme
    for name, words in (("person", NAMES), ("number", NUMBERS), ("emotion", EMOTIONS), ("time", TIMES)):
        for word in words:
            assert word not in table, word
            table[word] = name
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stories", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", required=True)
    parser.add_argument("--categories")
    args = parser.parse_args()
    with open(args.out, "w", encoding="utf-8") as f:
        f.write("\n".join(stories(args.stories, args.seed)) + "\n")
    if args.categories:
        with open(args.categories, "w", encoding="utf-8") as f:
            json.dump({"words": categories(), "other": "function"}, f, indent=0, sort_keys=True)
            f.write("\n")


if __name__ == "__main__":
    main()
