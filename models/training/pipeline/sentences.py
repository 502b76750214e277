"""Sentences that are not about the questions: a small grammar for the codec and the encoder, and a list for testing.

The grammar's sentences carry no meaning worth keeping; they put many words beside many others. HARVARD is taken from the
phonetically balanced lists of IEEE 297-1969 and is never trained on.
"""

import random

SUBJECTS = """the teacher|my old friend|a young woman|the king|our neighbour|the little boy|every student|the tall farmer|her brother|the quiet girl|a strange bird|
the grey horse|this small machine|the doctor|his daughter|the captain|a group of children|the whole village|nobody|the last guest|the big ship|a heavy storm|the yellow bus|
the white rabbit|your cousin|the painter|a busy shopkeeper|the judge|the young engineer|the moon""".replace("\n", "").split("|")
VERBS = """found|carried|watched|forgot|opened|painted|followed|bought|cleaned|described|lost|enjoyed|borrowed|pushed|measured|covered|brought|noticed|threw|kept|broke|
repaired|chose|mentioned|collected|shook|avoided|understood|questioned|wanted""".replace("\n", "").split("|")
OBJECTS = """the wooden door|a basket of apples|the broken window|a long letter|the blue umbrella|an empty box|the garden gate|five silver coins|a cup of tea|the heavy stone|
a piece of bread|the evening paper|the church bell|a pair of shoes|the narrow bridge|a thick book|the yellow flowers|a cheap ticket|the kitchen table|an old photograph|
the green bottle|a bag of flour|the judge's hat|a bright lamp|the frozen lake|a loaf of cheese|the sharp knife|a sheet of paper|the deep valley|a measure of rice""".replace("\n", "").split("|")
TAILS = """before breakfast|in the early morning|near the river|without a word|after the long war|on the third of june|behind the station|for eighteen years|with great pleasure|
during the night|at the end of march|under the oak tree|in the middle of town|because of the rain|with both hands|on a cold thursday|beyond the hills|for the first time|just in time|
while it was snowing|at half past seven|across the field|in a quiet voice|against the wall|on the way home|through the fog|in the year of the flood|next to the fire|
for thirteen dollars|since last august""".replace("\n", "").split("|")

HARVARD = """The birch canoe slid on the smooth planks.|Glue the sheet to the dark blue background.|It's easy to tell the depth of a well.|These days a chicken leg is a rare dish.|
Rice is often served in round bowls.|The juice of lemons makes fine punch.|The box was thrown beside the parked truck.|The hogs were fed chopped corn and garbage.|
Four hours of steady work faced us.|A large size in stockings is hard to sell.|The boy was there when the sun rose.|A rod is used to catch pink salmon.|
The source of the huge river is the clear spring.|Kick the ball straight and follow through.|Help the woman get back to her feet.|A pot of tea helps to pass the evening.|
Smoky fires lack flame and heat.|The soft cushion broke the man's fall.|The salt breeze came across from the sea.|The girl at the booth sold fifty bonds.""".replace("\n", "").split("|")


def generic(count: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    made = {}
    while len(made) < count:
        parts = [rng.choice(SUBJECTS), rng.choice(VERBS), rng.choice(OBJECTS)]
        if rng.random() < 0.7:
            parts.append(rng.choice(TAILS))
        text = " ".join(parts)
        made[text[0].upper() + text[1:] + "."] = None
    return list(made)
