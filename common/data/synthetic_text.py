"""Names, titles and descriptions of the synthetic world: templates from which function and family can be read."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from common.data.synthetic_graph import Role
from common.data.synthetic_world import BRANDS_PER_DEPARTMENT, GENERATIONS, World

DEPARTMENTS: tuple[tuple[str, str], ...] = (
    ("Printing", "printer|ink cartridge|photo paper|dust cover|paper tray|printer adapter|nozzle cleaner|print head"),
    ("Photography", "camera|film roll|photo album|camera bag|tripod|camera battery|lens cleaner|shutter unit"),
    ("Coffee", "espresso machine|coffee capsules|paper filters|barista cover|cup rack|machine cord|descaler|gasket"),
    ("Cycling", "bicycle|inner tube|tire sealant|pannier bag|phone mount|bike light charger|chain oil|brake pads"),
    ("Sewing", "sewing machine|thread|fabric sheet|carrying case|extension table|foot pedal|lint brush|bobbin hook"),
    ("Fishing", "fishing rod|fishing line|lure set|rod sleeve|rod holder|reel motor|reel oil|rod tip"),
    ("Aquarium", "aquarium tank|filter sponge|water conditioner|tank hood|tank stand|air pump|glass wiper|impeller"),
    ("Guitar", "electric guitar|guitar strings|pick pack|gig bag|guitar stand|amplifier|fretboard polish|tuning peg"),
    ("Drones", "drone|propeller set|landing pad|drone backpack|controller clip|flight battery|dust blower|rotor motor"),
    ("Shaving", "electric shaver|shaving foam|aftershave|shaver pouch|shaver dock|shaver charger|razor oil|razor foil"),
    ("Audio", "turntable|stylus needle|vinyl record|turntable lid|speaker stand|phono preamp|record wash|drive belt"),
    ("Gaming", "game console|game disc|gift card|console sleeve|wall bracket|pad battery|screen wipes|cooling fan"),
    ("Gardening", "lawn mower|trimmer line|grass seed|mower cover|tool rack|mower battery|deck scraper|mower blade"),
    ("Baking", "stand mixer|baking mix|parchment paper|mixer cover|bowl lift|mixer cable|bowl soap|dough hook"),
    ("Painting", "paint sprayer|wall paint|masking tape|storage box|extension pole|compressor|solvent|spray nozzle"),
    ("Camping", "camping stove|gas canister|meal pouch|stove sack|windscreen|igniter|soot remover|burner valve"),
    ("Astronomy", "telescope|star chart|observing log|telescope case|equatorial mount|power tank|optics cloth|focuser"),
    ("Vacuuming", "vacuum cleaner|dust bags|scent beads|hose bag|wall dock|vacuum battery|brush comb|motor filter"),
    ("Office", "label maker|label tape|index cards|labeler pouch|desk stand|labeler adapter|roller swab|cutter"),
    ("Welding", "welder|welding wire|steel plate|welder hood|welding cart|welder generator|anti gel|torch tip"),
    ("Skating", "skateboard|grip tape|wax bar|board bag|board rack|board motor|bearing lube|truck bushing"),
    ("Oral Care", "toothbrush|toothpaste|dental floss|brush case|brush holder|brush charger|tray wash|brush head"),
    ("Music Keys", "digital piano|sheet music|practice book|piano cover|keyboard stand|piano supply|key wipes|pedal"),
    ("Climate", "humidifier|scent oil|mineral pads|mist cover|shelf tray|mist adapter|scale remover|mist disc"),
)  # fmt: skip
"""Category, and product words in the order of :class:`Role`. Further departments are variants of these."""

_VARIANTS = ("", "travel", "professional")
_STYLES = ["black", "white", "silver", "walnut", "crimson", "navy", "olive", "coral", "ivory", "copper", "teal", "ruby"]
_PLAIN_STYLES = ["standard", "regular", "assorted", "classic"]
_PLAIN_WORDS = ["product", "article", "item", "unit", "piece", "accessory"]
_PLAIN_FAMILIES = ["everyday use", "home and office", "many purposes", "any occasion"]

_ROLE_TEXT = (
    ("The main machine of the {family} system.", "A complete {family} device, ready to use out of the box."),
    ("Runs empty with use and is then replaced; fits {family} devices.", "A refill made for the {family} system."),
    ("Used up together with the refills of the {family} system.", "Supplies for working with {family} devices."),
    ("Protects {family} devices while stored or carried.", "Cut to the shape of the {family}."),
    ("Holds {family} devices firmly in place.", "Sets up in a minute and carries the {family}."),
    ("Powers {family} devices for hours.", "Delivers the power that the {family} system needs."),
    ("Keeps {family} devices, and others of their kind, clean.", "For the regular upkeep of {family} devices."),
    ("Replaces the worn part of {family} devices.", "The spare part for a {family} that is much used."),
)
_PLAIN_TEXT = (
    "A good choice for {family}.",
    "Well made and tested for {family}.",
    "Popular with customers, suited to {family}.",
    "Carefully packed and made for {family}.",
)

_ONSETS, _VOWELS, _CODAS = "bdgklmrtvz", "aeiou", "nxkmzv"


def draw_names(count: int, rng: np.random.Generator) -> list[str]:
    """Draws distinct invented names of two syllables; their endings keep them apart from the product words."""
    letters = (_ONSETS, _VOWELS, _ONSETS, _VOWELS, _CODAS)
    sizes = tuple(len(alphabet) for alphabet in letters)
    spelled = np.unravel_index(rng.permutation(np.prod(sizes))[:count], sizes)
    columns = [np.array(list(alphabet))[index] for alphabet, index in zip(letters, spelled, strict=True)]
    return ["".join(name).capitalize() for name in zip(*columns, strict=True)]


def function_words(world: World, rng: np.random.Generator) -> tuple[list[str], list[str]]:
    """The product word of each function, from function 1, and the category of each department."""
    variant = np.repeat(np.arange(len(_VARIANTS)), len(DEPARTMENTS))
    # The order within a variant is random, but plain departments precede their variants.
    base = np.concatenate([rng.permutation(len(DEPARTMENTS)) for _ in _VARIANTS])
    words, categories = [], []
    for v, b in zip(variant[: world.departments], base[: world.departments], strict=True):
        category, products = DEPARTMENTS[b]
        words += [f"{_VARIANTS[v]} {product}".strip() for product in products.split("|")]
        categories.append(f"{_VARIANTS[v]} {category}".strip().capitalize())
    return words, categories


def build_items(world: World, readable: NDArray[np.bool_], rng: np.random.Generator) -> pl.DataFrame:
    """Writes the items table: token, title, description, category and brand.

    A readable text names the function, the family and the style of its item and says what the function is for. Other
    texts have the same form, with words that fit any item.

    Args:
        world: The items.
        readable: Whether each item's text reveals what it is.
        rng: Source of randomness.

    Returns:
        :data:`common.data.schema.ITEMS`, in ascending order of tokens.
    """
    items = len(world.function)
    lines = -(-world.families // GENERATIONS)
    brands = world.departments * BRANDS_PER_DEPARTMENT
    names = draw_names(brands + world.departments * lines, rng)
    words, categories = function_words(world, rng)
    department = (world.function - 1) // len(Role)
    local = (world.family - 1) % world.families
    family = pl.Series(names[brands:]).gather(department * lines + local // GENERATIONS)
    table = pl.DataFrame(
        {
            "item": token("i", items),
            "brand": pl.Series(names[:brands]).gather(department * BRANDS_PER_DEPARTMENT + world.brand),
            "category": pl.Series(categories).gather(department),
            "readable": readable,
            "device": world.function % len(Role) == 1,
            "function": pl.Series(words).gather(world.function - 1),
            "family": family + " " + pl.Series(local % GENERATIONS + 1).cast(pl.String),
            "style": pl.Series(_STYLES).gather(world.style),
            "model": pl.Series(rng.permutation(items) + items).cast(pl.String),
            "sentence": _sentences(world, rng),
            "plain_word": _any(_PLAIN_WORDS, items, rng),
            "plain_family": _any(_PLAIN_FAMILIES, items, rng),
            "plain_style": _any(_PLAIN_STYLES, items, rng),
            "plain_sentence": _any(_PLAIN_TEXT, items, rng),
        }
    )
    return _write(table)


def token(prefix: str, count: int) -> pl.Series:
    """``count`` tokens in alphabetical order."""
    digits = pl.Series(np.arange(1, count + 1)).cast(pl.String).str.zfill(len(str(count)))
    return (prefix + digits).alias(prefix)


def _any(words: list[str] | tuple[str, ...], count: int, rng: np.random.Generator) -> pl.Series:
    return pl.Series(words).gather(rng.integers(0, len(words), count))


def _sentences(world: World, rng: np.random.Generator) -> pl.Series:
    variants = len(_ROLE_TEXT[0])
    role = (world.function - 1) % len(Role)
    flat = pl.Series([sentence for role_text in _ROLE_TEXT for sentence in role_text])
    return flat.gather(role * variants + rng.integers(0, variants, len(role)))


def _write(table: pl.DataFrame) -> pl.DataFrame:
    pick = {
        name: pl.when("readable").then(pl.col(name)).otherwise(pl.col(f"plain_{name}")).alias(name)
        for name in ("family", "style", "sentence")
    }
    word = pl.when("readable").then(pl.col("function")).otherwise(pl.col("plain_word")).alias("function")
    said = table.with_columns(word, *pick.values())
    device_title = pl.format("{} {} {}, {}, model {}", "brand", "family", "function", "style", "model")
    other_title = pl.format("{} {} for {}, {}, model {}", "brand", "function", "family", "style", "model")
    named = pl.when(pl.col("readable") & pl.col("device")).then(device_title).otherwise(other_title)
    body = pl.col("sentence").str.replace("{family}", pl.col("family"), literal=True)
    finish = pl.format(" This {} comes in {} finish.", "function", "style")
    return said.select("item", named.alias("title"), (body + finish).alias("description"), "category", "brand")
